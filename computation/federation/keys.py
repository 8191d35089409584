"""The file with this node's private key: its own, made when a run begins, or a longer-lived one that is named.

PKCS #8 in PEM (RFC 8410), as `openssl genpkey -algorithm ed25519` makes it. The file never travels.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from computation.errors import SettingsError
from computation.files import plain, replacing
from computation.locks import locked
from computation.wire.signing import Key

__all__ = ["FILE", "VARIABLE", "load", "made", "own"]

#: The environment's variable that may name a file for more than one run.
VARIABLE = "COINSTAC_MESHNET_KEY"
#: Name of a run's own file, in the folder of the checkpoints.
FILE = "node-key.pem"
_MODE, _NEW = 0o600, os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_NO_KEY = "this node's key file holds no private Ed25519 key in PEM without a password; make one, or name none"
#: Bytes of the longest file that is read: ours have 119.
_LONGEST = 4096


def own(folder: Path, environment: Mapping[str, str] = os.environ) -> Key:
    """Return this node's key: the one in the file that the environment names, else in `folder`; made where none is.

    Parameters
    ----------
    folder : Path
        Of the node's checkpoints; made if missing.
    environment : mapping
        `COINSTAC_MESHNET_KEY` names a file that outlives this run.

    Raises
    ------
    SettingsError
        If the file holds no such key, may be read by others, or cannot be read or made.
    """
    named = environment.get(VARIABLE, "")
    try:
        if named:
            return load(made(Path(named).resolve()), shared=False)
        folder.mkdir(parents=True, exist_ok=True)
        return load(made(folder / FILE))
    except OSError as error:
        where = f"of {VARIABLE}" if named else "in the output folder"
        text = f"the key file {where} cannot be read or made; free some space, mend its rights, or name another"
        raise SettingsError(text, str(error)) from error


def made(path: Path) -> Path:
    """Write a new key where there is none, into a file that only its owner may read; return the path.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if path.exists():
        return path
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with locked(path):
        # Of two processes that begin at once, the second keeps the key of the first.
        if not path.exists():
            with replacing(path) as partial, os.fdopen(os.open(partial, _NEW, _MODE), "wb") as file:
                file.write(text)
    return path


def load(path: Path, *, shared: bool = True) -> Key:
    """Read a key file.

    Parameters
    ----------
    path : Path
        The file.
    shared : bool
        Whether it may be one that others can read: on some file systems each file is.

    Raises
    ------
    SettingsError
        If it holds no unencrypted Ed25519 key, or others may read it.
    OSError
        If it cannot be read.
    """
    with plain(path) as file:
        rights = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        text = file.read(_LONGEST)
    if rights & 0o077 and not shared:
        raise SettingsError(f"others may read the key file of {VARIABLE}; give it mode 600", f"{path}: {rights:o}")
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(_NO_KEY, str(path))
    return Key(key.private_bytes_raw())
