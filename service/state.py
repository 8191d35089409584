"""What the centre must remember between two steps, as a blob from which any other worker goes on.

A blob is a JSON header, with its length in eight bytes before it, and the files' bytes one after the other. What only
grows, such as the journal, is kept whole now and then and in pieces in between: a blob names the one before it, and
only holds what was added since. So the blob of a round is a checkpoint and a few lines, however long the run is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from computation.coinstac.claim import FILE as CLAIM
from computation.errors import ServiceError
from computation.federation.keys import FILE as KEY
from computation.files import replacing
from service.protocol import canonical

__all__ = ["LARGEST", "Memory", "restore"]

#: Bytes of one blob, far beyond any model's.
LARGEST = 2**30
_LENGTH = struct.Struct("<Q")
#: Files that the centre only adds to.
_GROWING = ("output/journal.jsonl", "output/metrics.csv", "output/run.log")
#: The record of `Carried`, what tells the handler that the folder is its own, and the key with which the centre signs.
_SMALL = ("carried.json", f"output/{CLAIM}", f"output/checkpoints/{KEY}")
#: Blobs in a row that are not whole: so many must at most be read to go on.
_MOST_PIECES = 31


class Memory:
    """What was kept of one folder, so that the next blob need not hold it again.

    Parameters
    ----------
    folder : Path
        Of the centre; see `Carried`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, int] = {}
        self._chain: list[str] = []

    @property
    def _whole(self) -> bool:
        """Whether the next blob names none before it."""
        return not 0 < len(self._chain) <= _MOST_PIECES

    def pack(self) -> tuple[bytes, dict[str, int]]:
        """Return the folder's state as a blob, and how long the growing files then are; for `keep`."""
        whole = self._whole
        files, pieces, lengths = [], [], {}
        for path in self._paths():
            name = path.relative_to(self._folder).as_posix()
            start = 0 if whole else self._kept.get(name, 0)
            with path.open("rb") as file:
                file.seek(start)
                piece = file.read()
            if name in _GROWING:
                lengths[name] = start + len(piece)
            files.append([name, start, len(piece)])
            pieces.append(piece)
        header = canonical({"before": "" if whole else self._chain[-1], "files": files}).encode()
        return b"".join([_LENGTH.pack(len(header)), header, *pieces]), lengths

    def _paths(self) -> list[Path]:
        newest = sorted((self._folder / "output" / "checkpoints").glob("checkpoint-*.bin"))[-1:]
        named = [self._folder / name for name in (*_SMALL, *_GROWING)]
        return [*(path for path in named if path.is_file()), *newest]

    def keep(self, key: str, lengths: Mapping[str, int]) -> list[str]:
        """Note that a blob is kept under a key, and return those that nobody needs any more."""
        whole = self._whole
        done = self._chain if whole else []
        self._chain = [key] if whole else [*self._chain, key]
        self._kept = dict(lengths)
        return done


def restore(folder: Path, key: str, read: Callable[[str], bytes]) -> None:
    """Make a folder as it was when a blob was packed.

    Parameters
    ----------
    folder : Path
        Empty, or not there.
    key : str
        Of the blob.
    read : callable
        Returns a blob by its key.

    Raises
    ------
    ServiceError
        If a blob is damaged. What `read` raises passes through.
    """
    pieces = []
    while key:
        header, files = _parse(read(key))
        pieces.append((header["files"], files))
        key = header["before"]
    for place, (listed, files) in enumerate(reversed(pieces)):
        for (name, start, _), content in zip(listed, files, strict=True):
            if name in _GROWING or place + 1 == len(pieces):
                _put(folder / name, start, content)


def _parse(blob: bytes) -> tuple[dict[str, Any], list[bytes]]:
    try:
        (length,) = _LENGTH.unpack_from(blob)
        header = json.loads(blob[_LENGTH.size : _LENGTH.size + length])
        files, start = [], _LENGTH.size + length
        for _, _, size in header["files"]:
            files.append(blob[start : start + size])
            start += size
        if start != len(blob):
            raise ValueError("of another length")
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ServiceError("what the centre kept of a step is damaged; the run cannot go on", repr(error)) from error
    return header, files


def _put(path: Path, start: int, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if start:
        with path.open("r+b") as file:
            file.seek(start)
            file.write(content)
            file.truncate()
        return
    with replacing(path) as partial:
        partial.write_bytes(content)
