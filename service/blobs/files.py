"""Files in a folder, with URLs that the service itself signs and serves; small ones may lie in the store instead.

A file appears under its key when it is whole and on the disk, and never changes. A URL is signed with a key that lies
beside the files, readable by its owner alone: whoever restarts the service serves the URLs of before.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlencode

from computation.files import plain
from service.blobs.base import SMALL, BlobError, BlobExists, BlobMissing, Signed, check_key
from service.protocol import Conflict, Forbidden, Gone, Malformed, TooLarge

__all__ = ["Files", "Incoming", "Small"]

_TYPE = "application/octet-stream"


class Small(Protocol):
    """Where small files are kept; see `store.sqlite.Shelf`."""

    def get(self, key: str) -> bytes | None:
        """Return a file, if it is there."""
        ...

    def put(self, key: str, content: bytes) -> bool:
        """Keep a file, if there is none under its key yet; tell whether there was none."""
        ...

    def delete(self, key: str) -> None:
        """Forget a file, if it is there."""
        ...

    def delete_under(self, prefix: str) -> None:
        """Forget all files whose keys begin with this and a '/'."""
        ...

    def then(self, act: Callable[[], None]) -> None:
        """Do something when what was changed so far is kept."""
        ...


class Files:
    """See `Blobs`.

    Parameters
    ----------
    folder : Path
        Of the files; made if missing.
    prefix : str
        Path on the service under which `incoming` and `outgoing` are served.
    small : Small, optional
        Keeps small files; without it they lie in the folder too, and each waits for the disk.

    Raises
    ------
    BlobError
        If the folder cannot be used, or its key can be read by others.
    """

    def __init__(self, folder: Path, prefix: str = "/v1/blobs", small: Small | None = None) -> None:
        self._folder, self._prefix, self._small = folder.absolute(), prefix, small
        with _failing():
            for path in (self._folder, self._folder / "partial"):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._secret = _secret(self._folder / "key")
            _sweep(self._folder / "partial")

    def sign_put(self, key: str, size: int, sha256: str, now: int, seconds: int) -> Signed:
        """See `Blobs`."""
        expires = now + 1000 * seconds
        query = self._signed("PUT", key, expires, size=str(size), sha256=sha256)
        return Signed("PUT", self._url(key, query), {"Content-Type": _TYPE, "If-None-Match": "*"}, expires)

    def sign_get(self, key: str, now: int, seconds: int, name: str = "") -> Signed:
        """See `Blobs`."""
        expires = now + 1000 * seconds
        return Signed("GET", self._url(key, self._signed("GET", key, expires, name=name)), {}, expires)

    def _url(self, key: str, query: Mapping[str, str]) -> str:
        return f"{self._prefix}/{check_key(key)}?{urlencode(query)}"

    def _signed(self, method: str, key: str, expires: int, **told: str) -> dict[str, str]:
        query = {"expires": str(expires), **told}
        return {**query, "signature": self._signature(method, key, query)}

    def _signature(self, method: str, key: str, query: Mapping[str, str]) -> str:
        told = "\n".join([method, key, *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self._secret, told.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _expect_signed(self, method: str, key: str, query: Mapping[str, str], now: int, names: set[str]) -> None:
        """Refuse a URL that was not made here for this verb and key, or is too old.

        Raises
        ------
        Forbidden, Gone
            Which of the two.
        """
        told = {name: value for name, value in query.items() if name != "signature"}
        given = str(query.get("signature", "")).encode("utf-8", "surrogatepass")
        wanted = self._signature(method, key, told).encode()
        if not hmac.compare_digest(given, wanted) or set(told) != names:
            raise Forbidden("signature", "the URL is not one that this service made for this verb; ask for a new one")
        if now >= int(told["expires"]):
            raise Gone("expired", "the URL has expired; ask for a new one")

    @contextmanager
    def incoming(self, key: str, query: Mapping[str, str], now: int) -> Iterator[Incoming]:
        """Take a file that somebody sends to a URL of `sign_put`; what is not whole at the end leaves no trace.

        Yields
        ------
        Incoming
            To write the pieces into, as they come.

        Raises
        ------
        Forbidden, Gone
            If the URL is not ours, or has expired.
        Conflict
            If there is a file already.
        TooLarge, Malformed
            If more, fewer or other bytes came than were signed for.
        BlobError
            If the disk takes no more.
        """
        self._expect_signed("PUT", key, query, now, {"expires", "size", "sha256"})
        if self._there(key):
            raise _exists()
        partial = self._partial()
        with _failing(), _removed(partial), _created(partial) as file:
            taken = Incoming(file, int(query["size"]))
            yield taken
            taken.expect(query["sha256"])
            file.flush()
            if not self._place(key, partial, file, taken.size):
                raise _exists()

    def outgoing(self, key: str, query: Mapping[str, str], now: int) -> tuple[bytes | Path, str]:
        """Return what a URL of `sign_get` asks for, as bytes or a file that holds them, and the name to save it as.

        Raises
        ------
        Forbidden, Gone
            If the URL is not ours, or has expired.
        BlobMissing
            If there is no such file any more.
        """
        self._expect_signed("GET", key, query, now, {"expires", "name"})
        small = self._small.get(key) if self._small else None
        if small is None and not self._path(key).is_file():
            raise BlobMissing("there is no such file any more")
        return small if small is not None else self._path(key), query["name"]

    def write(self, key: str, content: bytes) -> None:
        """See `Blobs`."""
        if self._small and len(content) <= SMALL:
            if self._path(key).exists() or not self._small.put(key, content):
                self._expect_same(key, content)
            return
        if self._there(key):
            self._expect_same(key, content)
            return
        partial = self._partial()
        with _failing(), _removed(partial), _created(partial) as file:
            file.write(content)
            file.flush()
            if not self._place(key, partial, file, len(content)):
                self._expect_same(key, content)

    def _expect_same(self, key: str, content: bytes) -> None:
        with suppress(BlobMissing):
            if self.read(key, len(content)) == content:
                return
        raise BlobExists("there is another file under that key, and files never change")

    def read(self, key: str, most: int) -> bytes:
        """See `Blobs`."""
        small = self._small.get(check_key(key)) if self._small else None
        if small is None:
            small = self._read_file(key, most)
        if len(small) > most:
            raise BlobMissing(f"the file is larger than {most} bytes")
        return small

    def _read_file(self, key: str, most: int) -> bytes:
        try:
            with plain(self._path(key)) as file:
                # Python makes room for all that is asked for, whatever there is.
                return file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
        except FileNotFoundError:
            raise BlobMissing("there is no such file") from None
        except OSError as error:
            raise BlobError("a file of the service cannot be read; mend its folder's rights", str(error)) from error

    def delete(self, key: str) -> None:
        """See `Blobs`."""
        path = self._path(key)
        if self._small:
            self._small.delete(key)
        self._then(lambda: _unlink(path))

    def delete_under(self, prefix: str) -> None:
        """See `Blobs`."""
        path = self._path(prefix)
        if self._small:
            self._small.delete_under(prefix)
        self._then(lambda: _unlink_under(path))

    def _then(self, act: Callable[[], None]) -> None:
        """Take nothing from the disk before the records that need it no more are kept."""
        if self._small:
            self._small.then(act)
        else:
            act()

    def _path(self, key: str) -> Path:
        return self._folder / "content" / check_key(key)

    def _partial(self) -> Path:
        return self._folder / "partial" / secrets.token_hex(16)

    def _there(self, key: str) -> bool:
        return self._path(key).exists() or (self._small is not None and self._small.get(key) is not None)

    def _place(self, key: str, partial: Path, file: BinaryIO, size: int) -> bool:
        """Give a whole file its key, if that is free; tell whether it was."""
        if self._small and size <= SMALL:
            file.seek(0)
            return self._small.put(check_key(key), file.read())
        os.fsync(file.fileno())
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            # Unlike a renamed file, a linked one never takes another's place.
            path.hardlink_to(partial)
        except FileExistsError:
            return False
        _sync(path.parent)
        return True


class Incoming:
    """A file that is being sent."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most, self._sha = file, most, hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Take one piece; raises `TooLarge` as soon as there are more bytes than were signed for."""
        self.size += len(piece)
        if self.size > self._most:
            raise TooLarge("size", f"more than the {self._most} bytes came that were announced", most=self._most)
        self._sha.update(piece)
        self._file.write(piece)

    def expect(self, sha256: str) -> None:
        """Refuse what is not the file that was announced; raises `Malformed`."""
        if self.size != self._most:
            raise Malformed("size", f"{self.size} bytes came; wanted the {self._most} that were announced")
        if not hmac.compare_digest(self._sha.hexdigest(), sha256):
            raise Malformed("altered", "the file is not the one that was announced: its SHA-256 differs; send it again")


def _exists() -> Conflict:
    return Conflict("exists", "the file is there already, and files never change; go on with the commit")


def _secret(path: Path) -> bytes:
    """Return the key that signs, made at the first time."""
    partial = path.with_name(f".key-{secrets.token_hex(8)}")
    if not path.exists():
        with _removed(partial), _created(partial) as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was faster
                path.hardlink_to(partial)
    with plain(path) as file:
        mode, secret = os.fstat(file.fileno()).st_mode, file.read(33)
    if mode & 0o077 or len(secret) != 32:
        text = "the key that signs URLs is damaged, or others can read it; remove it: a new one is made"
        raise BlobError(text, str(path))
    return secret


def _sweep(folder: Path) -> None:
    """Remove what was being sent when a process was killed; nothing is sent for a day."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - 86_400:
                path.unlink()


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w+b") as file:
        yield file


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Leave nothing under a name that was only for the meantime."""
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _unlink(path: Path) -> None:
    with _failing():
        path.unlink(missing_ok=True)


def _unlink_under(folder: Path) -> None:
    with _failing(), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BlobError(
            "a file of the service cannot be kept: its disk is full or takes no writing; free some space", str(error)
        ) from error
