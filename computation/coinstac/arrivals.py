"""Reads a file that COINSTAC delivered to the centre but left packed.

A site's files reach the centre as one `tar.gz` over HTTP, cut into parts, while the message that announces them goes
over MQTT. When the last part overtakes the message, COINSTAC 6.9.8 counts the files as received and never unpacks them
(`express-file-server-setup.js` unpacks only parts that are already expected). The centre then finds the file of an
earlier round, or none, and beside it `RUN-SITE-tempOutput.tar.gz.0` and so on, complete. On one machine this happens in
most rounds that are shorter than some 20 ms; between machines it can happen in any.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["left_packed"]

#: Members that one site's archive may have; our own has one, and a stray file or two may travel along.
_MOST_MEMBERS = 64
#: Bytes that an archive may unpack to beyond twice the wanted file: headers, and a stray file or two.
_ROOM = 2**18


def left_packed(folder: Path, name: str, length: int) -> bytes | None:
    """Return the content of `name` from the archive that was left in a site's folder at the centre.

    Parameters
    ----------
    folder : Path
        The centre's `baseDirectory`/site.
    name : str
        The file's name inside the archive.
    length : int
        Its exact length in bytes; nothing longer is unpacked, so an archive cannot fill the memory.

    Returns
    -------
    bytes or None
        None if there is no archive, or no such plain file of that length in it.
    """
    parts = sorted(folder.glob("*-tempOutput.tar.gz.*"), key=_number)
    if not parts:
        return None
    try:
        # tarfile's own "r|gz" raises TypeError on a truncated head; gzip's errors are all named.
        with (
            gzip.GzipFile(fileobj=io.BufferedReader(_Joined(parts))) as plain,
            tarfile.open(fileobj=_Bounded(plain, 2 * length + _ROOM), mode="r|") as archive,
        ):
            return _find(archive, name, length)
    # tarfile calls itself for each of the long names that stand before a member.
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError, RecursionError):
        return None


def _number(part: Path) -> int:
    digits = part.suffix[1:]
    return int(digits) if digits.isdecimal() and len(digits) < 10 else 0


def _find(archive: tarfile.TarFile, name: str, length: int) -> bytes | None:
    for _, member in zip(range(_MOST_MEMBERS), archive, strict=False):
        if member.isreg() and member.name.removeprefix("./") == name and member.size == length:
            file = archive.extractfile(member)
            return file.read(length) if file else None
    return None


class _Bounded(io.RawIOBase):
    """So many bytes of a stream, and an error beyond: tarfile would take a name of gigabytes into memory."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raises `OSError` where there are too many."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise OSError("the archive unpacks to more than its one file can need")
        return data


class _Joined(io.RawIOBase):
    """The parts of an archive as one stream."""

    def __init__(self, parts: list[Path]) -> None:
        self._blocks = self._read_all(parts)
        self._rest = b""

    @staticmethod
    def _read_all(parts: list[Path]) -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    yield block

    def readable(self) -> bool:
        """Say that this is a stream to read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with what comes next."""
        self._rest = self._rest or next(self._blocks, b"")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
