"""One file for each iteration: a JSON header, raw arrays, and the SHA-256 of both.

Layout, little-endian::

    offset  bytes  field
    0       8      magic, "CXCHKP" and the format version
    8       8      length of the header, unsigned
    16      32     SHA-256 of header and arrays
    48      ...    header: {"iteration", "values", "arrays": [[name, dtype, shape], ...]}
    ...     ...    the arrays, one after the other, in C order

A file appears under its name only when it is whole, so a killed process leaves the checkpoints of earlier iterations
and nothing half-written that looks whole. It is not forced to the disk: that costs ten milliseconds and more, and
guards against a power cut only, after which the checksum tells.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import ResumeError, unwritable
from computation.files import overwrite

__all__ = ["iterations", "load", "name", "save"]

_MAGIC = b"CXCHKP\x00\x01"
_HEAD = struct.Struct("<8sQ32s")
_NAME = re.compile(r"checkpoint-(\d{8,})\.bin")
#: What is written until it is whole; between two that follow each other, the one that fell out.
_SPARE = "checkpoint.spare"
_DTYPES = {name: np.dtype(name) for name in ("<f4", "<f8", "<i8", "|u1")}

Array = NDArray[Any]


def name(iteration: int) -> str:
    """Return the name of an iteration's file."""
    return f"checkpoint-{iteration:08d}.bin"


def save(
    folder: Path,
    iteration: int,
    arrays: Mapping[str, Array],
    values: Mapping[str, Any],
    *,
    keep: int = 2,
    follows: bool = False,
) -> Path:
    """Write one checkpoint and remove those beyond the `keep` newest.

    Parameters
    ----------
    folder : Path
        Made if missing; no other process writes there.
    iteration : int
        Its number; an existing checkpoint of that number is replaced, newer ones belong to a course that was given up
        and are removed.
    arrays : mapping of str to numpy.ndarray
        float32, float64, int64 or uint8.
    values : mapping
        Plain JSON values, finite.
    keep : int
        How many to keep, this one included.
    follows : bool
        Whether the `keep` iterations before were saved by the caller, and nothing else since. Then it is known what
        there is, and what falls out is set aside, to be written over by the next one: a new file costs ten times that.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResumeError
        If the folder is full or may not be written; the checkpoints that are there stay as they are.
    """
    packed = {label: np.ascontiguousarray(array, _DTYPES[array.dtype.str]) for label, array in arrays.items()}
    listed = [[label, array.dtype.str, list(array.shape)] for label, array in packed.items()]
    header = json.dumps(
        {"iteration": iteration, "values": values, "arrays": listed}, separators=(",", ":"), allow_nan=False
    ).encode()
    pieces: list[bytes | memoryview] = [header, *(array.reshape(-1).view(np.uint8).data for array in packed.values())]
    path, spare = folder / name(iteration), folder / _SPARE
    try:
        if not follows:
            folder.mkdir(parents=True, exist_ok=True)
        overwrite(spare, [_HEAD.pack(_MAGIC, len(header), _digest(pieces)), *pieces])
        spare.rename(path)
        if follows:
            with suppress(FileNotFoundError):
                (folder / name(iteration - keep)).rename(spare)
        else:
            _prune(folder, iteration, keep)
    except OSError as error:
        raise ResumeError(f"a checkpoint cannot be written: {unwritable('output')}", str(error)) from error
    return path


def _digest(pieces: list[Any]) -> bytes:
    sha = hashlib.sha256()
    for piece in pieces:
        sha.update(piece)
    return sha.digest()


def _prune(folder: Path, newest: int, keep: int) -> None:
    found = iterations(folder)
    stay = {iteration for iteration in found if iteration <= newest}
    stay = set(sorted(stay)[-keep:])
    for iteration in found:
        if iteration not in stay:
            (folder / name(iteration)).unlink(missing_ok=True)


def iterations(folder: Path) -> tuple[int, ...]:
    """Return the iterations of which a checkpoint is there, oldest first."""
    if not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        found = [_NAME.fullmatch(entry.name) for entry in entries]
    return tuple(sorted(int(match[1]) for match in found if match))


def load(folder: Path, iteration: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the checkpoint of exactly one iteration.

    Parameters
    ----------
    folder : Path
        Where `save` wrote.
    iteration : int
        Which one.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        The caller's own.
    values : dict
        As they were saved.

    Raises
    ------
    ResumeError
        If it is missing, truncated, altered, or of another iteration.
    """
    path = folder / name(iteration)
    try:
        blob = path.read_bytes()
    except OSError as error:
        there = ", ".join(map(str, iterations(folder))) or "none"
        raise ResumeError(
            f"there is no checkpoint of iteration {iteration} to go on from (there: {there}); start the run again",
            str(error),
        ) from None
    try:
        return _parse(blob, iteration)
    except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        raise ResumeError(
            f"the checkpoint of iteration {iteration} is damaged ({_why(error)}); start the run again",
            f"{path}: {error!r}",
        ) from None


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else "malformed"


def _parse(blob: bytes, iteration: int) -> tuple[dict[str, Array], dict[str, Any]]:
    magic, length, digest = _HEAD.unpack_from(blob)
    body = memoryview(blob)[_HEAD.size :]
    if magic != _MAGIC:
        raise ValueError("of another format")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its checksum does not match")
    header = json.loads(bytes(body[:length]))
    if header["iteration"] != iteration:
        raise ValueError(f"of iteration {int(header['iteration'])}")
    arrays, start = {}, length
    for label, dtype, shape in header["arrays"]:
        count = math.prod(shape)
        arrays[str(label)] = np.frombuffer(body, _DTYPES[dtype], count, start).reshape(shape).copy()
        start += count * _DTYPES[dtype].itemsize
    return arrays, dict(header["values"])
