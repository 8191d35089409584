"""Reads a file that COINSTAC delivered to the centre but left packed.

A site's files reach the centre as one `tar.gz` over HTTP, cut into parts, while the message that announces them goes
over MQTT. When the last part overtakes the message, COINSTAC 6.9.8 counts the files as received and never unpacks them
(`express-file-server-setup.js` unpacks only parts that are already expected). The centre then finds the file of an
earlier round, or none, and beside it `RUN-SITE-tempOutput.tar.gz.0` and so on, complete. On one machine this happens in
most rounds that are shorter than some 20 ms; between machines it can happen in any.

The parts are another's, and read as such: plain files only, no more bytes than the wanted file can need, and of tar's
format (POSIX.1-1988, "ustar") only what a plain file of a short name takes. Nothing of tar's later inventions, such as
names and attributes of any length, is ever interpreted.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from computation.errors import PayloadError
from computation.files import plain
from computation.wire import payload
from computation.wire.payload import Manifest, Vector

__all__ = ["left_packed", "receive"]

#: Members that one site's archive may have; our own has one, and a stray file or two may travel along.
_MOST_MEMBERS = 64
#: Bytes of an archive, packed or unpacked, beyond twice the wanted file: headers, and a stray file or two.
_ROOM = 2**18
#: The platform cuts at 21 MiB: with so many parts an archive has twenty gigabytes.
_MOST_PARTS = 1000
_PARTS = "*-tempOutput.tar.gz.*"

_GZIP = 31  # zlib's word for a gzip header, whose file name and comment it skips without keeping them
_PIECE = 1 << 18
_BLOCK = 512
_PLAIN = (b"0", b"\0")


def receive(
    path: Path,
    *,
    kind: int,
    round: int,
    manifest: Manifest,
    dtype: np.dtype[Any],
    model: str = "",
    site: str = "",
    run: str = "",
    signed: str = "",
) -> Vector:
    """Read a site's payload, also where the platform left it packed; parameters and errors as for `payload.read`.

    The values stay in the file: the platform changes it only after the centre has answered.
    """
    wanted: dict[str, Any] = {"kind": kind, "round": round, "manifest": manifest, "dtype": dtype}
    wanted |= {"model": model, "site": site, "run": run, "signed": signed}
    try:
        return payload.read(path, **wanted, mapped=True)
    except PayloadError:
        packed = left_packed(path.parent, path.name, payload.length(manifest, dtype))
        if packed is None:
            raise
        return payload.decode(packed, **wanted)


def left_packed(folder: Path, name: str, length: int) -> bytes | None:
    """Return the content of `name` from the archive that was left in a site's folder at the centre.

    Parameters
    ----------
    folder : Path
        The centre's `baseDirectory`/site.
    name : str
        The file's name inside the archive.
    length : int
        Its exact length in bytes; nothing longer is read or unpacked, so an archive cannot fill memory or time.

    Returns
    -------
    bytes or None
        None if there is no archive, or no such plain file of that length in it.
    """
    most = 2 * length + _ROOM
    try:
        return _find(_Unpacked(_packed(_parts(folder), most), most), name.encode(), length)
    except (zlib.error, EOFError, OSError, ValueError):
        return None


def _parts(folder: Path) -> list[Path]:
    numbers = {path: path.suffix[1:] for path in folder.glob(_PARTS)}
    numbered = [path for path, number in numbers.items() if number.isdecimal() and len(number) < 10]
    return sorted(numbered, key=lambda path: int(numbers[path]))[:_MOST_PARTS]


def _packed(parts: list[Path], most: int) -> Iterator[bytes]:
    """Yield the bytes of all parts; raises `OSError` at anything but a plain file, and beyond `most` bytes of all."""
    for part in parts:
        with plain(part) as file:
            while piece := file.read(_PIECE):
                most -= len(piece)
                if most < 0:
                    raise OSError("the archive is larger than its one file can need")
                yield piece


class _Unpacked:
    """What the parts unpack to, so many bytes at a time as are asked for and never more than `most` in all."""

    def __init__(self, packed: Iterator[bytes], most: int) -> None:
        self._packed, self._left = packed, most
        self._gzip = zlib.decompressobj(_GZIP)

    def take(self, size: int) -> bytes:
        """Return exactly so many bytes; raises `EOFError` where there are fewer, `OSError` where that is too many."""
        self._left -= size
        if self._left < 0:
            raise OSError("the archive unpacks to more than its one file can need")
        taken = bytearray()
        while len(taken) < size:
            waiting = self._gzip.unconsumed_tail or next(self._packed, b"")
            piece = self._gzip.decompress(waiting, size - len(taken))
            if not piece and (self._gzip.eof or not waiting):
                raise EOFError
            taken += piece
        return bytes(taken)


def _find(archive: _Unpacked, name: bytes, length: int) -> bytes | None:
    for _ in range(_MOST_MEMBERS):
        head = archive.take(_BLOCK)
        if not any(head):
            return None
        # Name 100, mode 8, owner 8, group 8, size 12, time 12, sum 8, kind 1, link 100, magic 8, ..., prefix 155.
        found, size, kind, prefix = _text(head[:100]), _octal(head[124:136]), head[156:157], head[345:346]
        if kind in _PLAIN and prefix == b"\0" and found.removeprefix(b"./") == name and size == length:
            return archive.take(length)
        archive.take(-(-size // _BLOCK) * _BLOCK)
    return None


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int:
    """Read a size; raises `ValueError` for anything but octal digits, such as the sizes of files beyond 8 GiB."""
    digits = field.strip(b"\0 ")
    if not digits.isdigit():
        raise ValueError("the archive gives a size that is no octal number")
    return int(digits, 8)
