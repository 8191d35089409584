"""What a place for files can do: keep bytes under a key for good, and let somebody else send or fetch them by a URL.

A key is a relative path of plain names, such as ``runs/<run>/content/<sha256>``. Content never changes: a key is
written once, and what is written again under it must be the same. A signed URL is all that its bearer needs, so it
holds for one key, one verb and a short time, and an upload also for one size and one SHA-256. Nothing is believed for
it: whoever takes an upload into a run reads the bytes again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from computation.errors import ServiceError

__all__ = ["SMALL", "BlobError", "BlobExists", "BlobMissing", "Blobs", "Signed", "check_key"]

#: Bytes up to which a file is small: keeping one takes no time to speak of, and it may lie with the records.
SMALL = 256 * 1024

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,15}")


class BlobError(ServiceError):
    """A file cannot be kept, read or signed for; the place may be full."""


class BlobMissing(BlobError):
    """There is no such file, or it is larger than the caller wants to read."""


class BlobExists(BlobError):
    """There is another content under that key, which never changes."""


@dataclass(frozen=True)
class Signed:
    """A URL that its bearer may use.

    Attributes
    ----------
    method : str
        `PUT` or `GET`, and no other.
    url : str
        Absolute, or, where the service itself keeps the files, a path on the service.
    headers : mapping of str to str
        Headers that the request must carry, exactly: they are part of what was signed.
    expires : int
        Milliseconds since 1970 until when it holds.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    expires: int = 0


class Blobs(Protocol):
    """One place where files are kept; any number of threads and processes may use it at once."""

    def sign_put(self, key: str, size: int, sha256: str, now: int, seconds: int) -> Signed:
        """Let somebody send one file: of this size and SHA-256 (hexadecimal), only if the key is free."""
        ...

    def sign_get(self, key: str, now: int, seconds: int, name: str = "") -> Signed:
        """Let somebody fetch a file; with a name, a browser saves it as that."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Keep a file; where the same content is there already, that is as good.

        Raises
        ------
        BlobExists
            If another content is there.
        BlobError
            If the place takes no more.
        """
        ...

    def read(self, key: str, most: int) -> bytes:
        """Return a file.

        Raises
        ------
        BlobMissing
            If there is none, or it has more than `most` bytes; no more than that is ever read.
        BlobError
            If the place fails.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget a file, if it is there."""
        ...

    def delete_under(self, prefix: str) -> None:
        """Forget every file whose key begins with this and a '/'; safe to repeat."""
        ...


def check_key(key: str) -> str:
    """Return a key that is sound.

    Raises
    ------
    BlobError
        If it is not: nothing outside the place is ever named by one.
    """
    if _KEY.fullmatch(key) is None or ".." in key:
        raise BlobError("the file's key is no path of plain names; wanted letters, digits, '.', '_', '-' and '/'")
    return key
