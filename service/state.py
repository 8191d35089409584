"""What the centre must remember between two steps, as blobs from which any other worker goes on.

A blob is a JSON header, with its length in eight bytes before it, and the files' bytes one after the other. What is
written anew in each step, such as the checkpoint, is a blob that the next step's takes the place of. What only grows,
such as the journal, is kept whole now and then and in pieces in between: each holds what was added since the one
before, and names it. So a round keeps a checkpoint and a few lines, however long the run is.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.coinstac.claim import FILE as CLAIM
from computation.errors import ServiceError
from computation.federation.keys import FILE as KEY
from computation.files import replacing
from computation.training import checkpoint
from service.protocol import canonical

__all__ = ["LARGEST", "Kept", "Memory", "restore"]

#: Bytes of one blob, far beyond any model's.
LARGEST = 2**30
_LENGTH = struct.Struct("<Q")
#: Files that the centre only adds to.
_GROWING = ("output/journal.jsonl", "output/metrics.csv", "output/run.log")
#: The record of `Carried`, what tells the handler that the folder is its own, and the key with which the centre signs.
_SMALL = ("carried.json", f"output/{CLAIM}", f"output/checkpoints/{KEY}")
#: Pieces in a row: so many must at most be read to go on.
_MOST_PIECES = 31


@dataclass(frozen=True)
class Kept:
    """What a step leaves behind.

    Attributes
    ----------
    key : str
        Of the blob from which one goes on.
    blobs : mapping of bytes
        By key.
    done : tuple of str
        Keys that nobody needs once the step is published.
    """

    key: str
    blobs: Mapping[str, bytes]
    done: tuple[str, ...]


class Memory:
    """What was kept of one folder, so that it need not be kept again.

    Parameters
    ----------
    folder : Path
        Of the centre; see `Carried`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._lengths: dict[str, int] = {}
        self._chain: list[str] = []
        self._before = ""

    def keep(self, iteration: int, name: str) -> Kept:
        """Return the folder's state after an iteration, as blobs whose keys begin with a name that no others have."""
        whole = not 0 < len(self._chain) <= _MOST_PIECES
        done = [self._before] if self._before else []
        if whole:
            done += self._chain
            self._lengths, self._chain = {}, []
        pieces = self._packed(_GROWING, self._chain[-1] if self._chain else "")
        self._chain.append(f"{name}-lines")
        newest = self._packed((*_SMALL, f"output/checkpoints/{checkpoint.name(iteration)}"), self._chain[-1])
        self._before = name
        return Kept(name, {self._chain[-1]: pieces, name: newest}, tuple(done))

    def _packed(self, names: tuple[str, ...], before: str) -> bytes:
        """Return a blob of files, without what is kept of them."""
        files, pieces = [], []
        for name in names:
            start = self._lengths.get(name, 0)
            piece = _read(f"{self._folder}/{name}", start)
            if piece is None:
                continue
            if name in _GROWING:
                self._lengths[name] = start + len(piece)
            files.append([name, start, len(piece)])
            pieces.append(piece)
        header = canonical({"before": before, "files": files}).encode()
        return b"".join([_LENGTH.pack(len(header)), header, *pieces])


def _read(path: str, start: int) -> bytes | None:
    """Return what a file holds from a place on; None where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb", buffering=0) as file:
        file.seek(start)
        return file.read()


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
