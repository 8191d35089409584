"""Who may talk to whom: each node has a CURVE key pair, and knows the public keys of those whom it lets in.

A folder of keys holds `NAME.secret`, readable by its owner alone, and `known/NAME.key`, one public key of 40 letters
for each node that is known. On one machine all nodes can share the folder; between machines the public halves are
copied by hand, as SSH's are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from computation.errors import PeersError
from computation.files import replacing

__all__ = ["Known", "Pair", "is_name", "pair"]

_LETTERS = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_name(text: str) -> bool:
    """Tell whether a node may have this name."""
    return bool(_NAME.fullmatch(text))


@dataclass(frozen=True)
class Pair:
    """A node's name and key pair, in Z85."""

    name: str
    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Pair({self.name!r})"  # a secret must not stand in a log


@dataclass(frozen=True)
class Known:
    """The public keys of a folder; a file that is added counts at once."""

    folder: Path

    def keys(self) -> dict[bytes, str]:
        """Return names by public key."""
        found = {path.stem: path.read_bytes().strip() for path in sorted((self.folder / "known").glob("*.key"))}
        return {key: name for name, key in found.items() if _LETTERS.fullmatch(key)}

    def name(self, key: bytes) -> str:
        """Return whose key it is; nothing if nobody's."""
        return self.keys().get(key, "")

    def key(self, name: str) -> bytes:
        """Return a node's key.

        Raises
        ------
        PeersError
            If it is not known.
        """
        for key, other in self.keys().items():
            if other == name:
                return key
        raise PeersError(
            f"the key of node {name} is not known here; wanted known/{name}.key in the folder of keys: copy it there"
        )


def pair(folder: Path, name: str) -> Pair:
    """Return a node's key pair, made at the first time.

    Raises
    ------
    PeersError
        If the name cannot be one, or the folder cannot be written.
    """
    import zmq

    if not is_name(name):
        raise PeersError(
            f"a node is named {name[:64]!r}; wanted letters, digits, dots, dashes and underscores, at most 64"
        )
    secret, public = folder / f"{name}.secret", folder / "known" / f"{name}.key"
    try:
        public.parent.mkdir(parents=True, exist_ok=True)
        if not secret.is_file():
            _write(secret, zmq.curve_keypair()[1])
        text = secret.read_bytes().strip()
        pair = Pair(name, zmq.curve_public(text), text)
        if not public.is_file() or public.read_bytes().strip() != pair.public:
            with replacing(public) as partial:
                partial.write_bytes(pair.public + b"\n")
    except (OSError, ValueError, zmq.ZMQError) as error:
        raise PeersError(
            f"the keys of node {name} cannot be read or written; mend the folder of keys", str(error)
        ) from error
    return pair


def _write(path: Path, secret: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret + b"\n")
