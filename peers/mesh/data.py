"""A task's data: a folder with a train and a test part, cut up for the providers, and fetched by them over FTPS.

Each file is a NumPy archive of `inputs` and `targets`, read without pickle. The requester serves each provider its own
folder, to one user with one password, over TLS alone and read-only. The provider believes no certificate but the one
that the task names, goes on where a transfer broke off, and checks size and SHA-256 of every file.
"""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import json
import logging
import re
import secrets
import ssl
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.checks import is_digest, parse_json
from computation.errors import PeersError
from peers.splits import iid

__all__ = ["INDEX", "Account", "Piece", "Served", "cut", "fetch", "part", "served"]

INDEX = "index.json"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.npz")
_MOST_FILES, _MOST_INDEX, _MOST_FILE = 100_000, 1 << 24, 1 << 34
#: Bytes of a file that is served: a transfer that broke off loses at most this.
_PIECE_BYTES = 8 << 20
_TRIES = 5

Arrays = tuple[NDArray[Any], NDArray[Any]]


def part(folder: Path, name: str) -> Arrays:
    """Return inputs and targets of one part of a data set, all its files together, by name.

    Raises
    ------
    PeersError
        If the part is missing or empty, or a file is something else.
    """
    files = sorted((folder / name).glob("*.npz"))
    if not files:
        raise PeersError(f"the data have no {name} part; wanted .npz files in the folder's {name}/", str(folder))
    arrays = [_arrays(path) for path in files]
    if len({(one.shape[1:], one.dtype, two.shape[1:], two.dtype) for one, two in arrays}) != 1:
        raise PeersError(f"the files of the {name} part differ in shape or type; wanted them alike")
    return np.concatenate([one for one, _ in arrays]), np.concatenate([two for _, two in arrays])


def _arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as found:
            inputs, targets = found["inputs"], found["targets"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise PeersError(
            f"{path.name} is no data file; wanted a NumPy archive of inputs and targets", str(error)
        ) from error
    numbers = inputs.dtype.kind == "f" and targets.dtype.kind in "fi" and inputs.ndim > 1
    if not numbers or len(inputs) != len(targets) or not len(inputs) or not np.isfinite(inputs).all():
        seen = f"{inputs.shape} inputs of {inputs.dtype} for {targets.shape} targets of {targets.dtype}"
        raise PeersError(f"{path.name} holds {seen}; wanted a finite number for each, and as many")
    return inputs, targets


def cut(arrays: Arrays, folder: Path, names: Sequence[str], seed: int) -> dict[str, int]:
    """Write each provider's part into a folder of its own, with an index; return how many items each has.

    Parameters
    ----------
    arrays : tuple of numpy.ndarray
        Inputs and targets.
    folder : Path
        Where; made if need be.
    names : sequence of str
        Of the providers.
    seed : int
        Of the chance that deals the items out; sizes differ by at most one.
    """
    inputs, targets = arrays
    places = iid(len(inputs), len(names), np.random.default_rng(seed))
    return {name: _write(folder / name, inputs[own], targets[own]) for name, own in zip(names, places, strict=True)}


def _write(folder: Path, inputs: NDArray[Any], targets: NDArray[Any]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    each = max(_PIECE_BYTES // max(inputs[:1].nbytes + targets[:1].nbytes, 1), 1)
    rows = []
    for number, start in enumerate(range(0, len(inputs), each)):
        path = folder / f"part-{number:05d}.npz"
        np.savez(path, inputs=inputs[start : start + each], targets=targets[start : start + each])
        rows.append({"name": path.name, "bytes": path.stat().st_size, "sha256": _sha(path)})
    (folder / INDEX).write_text(json.dumps(rows), encoding="utf-8")
    return len(inputs)


def _sha(path: Path) -> str:
    check = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            check.update(block)
    return check.hexdigest()


@dataclass(frozen=True)
class Account:
    """Where a provider finds its part.

    Attributes
    ----------
    host, port : str and int
        Of the server.
    user, password : str
        Of this provider and task alone.
    certificate : str
        PEM, the only one that is believed.
    """

    host: str
    port: int
    user: str
    password: str
    certificate: str

    def __repr__(self) -> str:
        return f"Account({self.user!r} at {self.host}:{self.port})"


@dataclass(frozen=True)
class Served:
    """A running server: an account for each provider."""

    accounts: Mapping[str, Account]


@contextlib.contextmanager
def served(folder: Path, names: Sequence[str], host: str, port: int = 0) -> Iterator[Served]:
    """Serve each provider its own folder while inside.

    Parameters
    ----------
    folder : Path
        With a folder for each name.
    names : sequence of str
        Of the providers.
    host, port : str and int
        Where to listen; 0 for any port.
    """
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

    log = logging.getLogger("pyftpdlib")  # it would print users and paths
    log.addHandler(logging.NullHandler())
    log.propagate = False
    authorizer = DummyAuthorizer()
    words = {name: secrets.token_urlsafe(24) for name in names}
    users = {name: f"{name}-{secrets.token_hex(4)}" for name in names}
    for name in names:
        authorizer.add_user(users[name], words[name], str(folder / name), perm="elr")
    pem = folder / "server.pem"
    certificate = _certificate(pem, host)

    class Handler(TLS_FTPHandler):  # type: ignore[misc]
        """Reading, by those users, and nothing in the clear."""

    Handler.authorizer, Handler.certfile = authorizer, str(pem)
    Handler.tls_control_required = Handler.tls_data_required = True
    Handler.banner, Handler.max_login_attempts, Handler.timeout = "data of a task", 3, 60
    loop = IOLoop()
    server = FTPServer((host, port), Handler, ioloop=loop)
    server.max_cons_per_ip = 64
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            loop.loop(timeout=0.05, blocking=False)
        server.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    real = server.address[1]
    try:
        yield Served({name: Account(host, real, users[name], words[name], certificate) for name in names})
    finally:
        over.set()
        thread.join()


def _certificate(path: Path, host: str) -> str:
    """Write a key and a certificate of its own for a few days; return the certificate."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "task")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(*kinds) + certificate)
    text: str = certificate.decode()
    return text


@dataclass(frozen=True)
class Piece:
    """One file of an index."""

    name: str
    bytes: int
    sha256: str


def fetch(
    account: Account, folder: Path, room: float, told: Callable[[str], None] = lambda _: None
) -> tuple[Path, ...]:
    """Fetch a provider's part into a folder, where an earlier transfer broke off from there.

    Parameters
    ----------
    account : Account
        Where.
    folder : Path
        Where to; made if need be.
    room : float
        Bytes that it may take.
    told : callable
        Hears of each transfer that is tried again.

    Returns
    -------
    tuple of Path
        The files, whole and checked.

    Raises
    ------
    PeersError
        If the server is another, names a file that cannot be, or too large ones, or does not give them whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for tried in range(1, _TRIES + 1):
        try:
            with _connected(account) as ftp:
                pieces = _index(ftp)
                if sum(piece.bytes for piece in pieces) > room:
                    raise PeersError(f"the data need {sum(one.bytes for one in pieces)} bytes; here are {room:.0f}")
                return tuple(_piece(ftp, piece, folder) for piece in pieces)
        except (OSError, EOFError, ftplib.Error) as error:
            told(f"the data did not come at try {tried}: {type(error).__name__}")
            if tried == _TRIES:
                raise PeersError("the data cannot be fetched; look at the requester's server", str(error)) from error
            time.sleep(0.2 * tried)
    raise AssertionError


@contextlib.contextmanager
def _connected(account: Account) -> Iterator[ftplib.FTP_TLS]:
    context = ssl.create_default_context(cadata=account.certificate)
    context.check_hostname = False  # there is one certificate that is believed, whoever has its key
    ftp = _SameSession(context=context, timeout=20)
    try:
        ftp.connect(account.host, account.port)
        ftp.login(account.user, account.password)
        ftp.prot_p()
        yield ftp
    finally:
        ftp.close()


class _SameSession(ftplib.FTP_TLS):
    """Data come from the host of the control connection, whatever the server says."""

    def makepasv(self) -> tuple[str, int]:
        _, port = super().makepasv()
        return self.host, port


def _index(ftp: ftplib.FTP_TLS) -> list[Piece]:
    blob = bytearray()

    def more(block: bytes) -> None:
        blob.extend(block)
        if len(blob) > _MOST_INDEX:
            raise PeersError(f"the index of the data is longer than {_MOST_INDEX} bytes")

    ftp.retrbinary(f"RETR {INDEX}", more)
    try:
        rows = parse_json(bytes(blob))
        pieces = [Piece(str(row["name"]), row["bytes"], row["sha256"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise PeersError("the index of the data cannot be read; wanted a list of files", str(error)) from error
    for piece in pieces:
        whole = type(piece.bytes) is int and 0 <= piece.bytes <= _MOST_FILE
        if not (_NAME.fullmatch(piece.name) and whole and is_digest(piece.sha256)):
            raise PeersError(f"the index of the data names {piece.name[:80]!r}, which can be no file of it")
    if len(pieces) > _MOST_FILES or len({piece.name for piece in pieces}) < len(pieces) or not pieces:
        raise PeersError(f"the index of the data names {len(pieces)} files, or one twice; wanted 1 to {_MOST_FILES}")
    return pieces


def _piece(ftp: ftplib.FTP_TLS, piece: Piece, folder: Path) -> Path:
    """Fetch one file; what is altered is thrown away, so that the next try fetches it anew."""
    path, partial = folder / piece.name, folder / f"{piece.name}.partial"
    if path.is_file() and path.stat().st_size == piece.bytes and _sha(path) == piece.sha256:
        return path
    have = partial.stat().st_size if partial.is_file() else 0
    have = have if have <= piece.bytes else 0
    with partial.open("ab" if have else "wb") as file:

        def more(block: bytes) -> None:
            if file.tell() + len(block) > piece.bytes:
                raise OSError("more came than the index says")
            file.write(block)

        if have < piece.bytes:
            ftp.retrbinary(f"RETR {piece.name}", more, rest=have or None)
    if partial.stat().st_size != piece.bytes or _sha(partial) != piece.sha256:
        partial.unlink()
        raise OSError(f"{piece.name} came altered")
    partial.replace(path)
    return path
