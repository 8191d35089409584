"""Volumes cut into compressed cubes: which blocks a sub-volume touches, and how a block becomes bytes and back.

A block is decoded in a fixed order: CRC-32 of the stored bytes, declared size, decompression, size again, filter
undone. Whatever the bytes are, the only outcomes are an array or one `ScanFault`. The CRC-32 starts from the block's
place, so that an intact block in another block's place is damage too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import numpy as np
import zstandard
from numpy.typing import NDArray

from computation.scans.store import filters
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.filters import CODECS, Triple

__all__ = ["CODECS", "DTYPES", "LONGEST_SIDE", "SIDE", "BlockGrid", "Box", "Triple", "encode", "place", "unpack"]

#: Side of a block in voxels. 32 keeps a random 64^3 sub-volume to 27 blocks and compresses as well as 64.
SIDE = 32

#: Side of the largest blocks that are read: one of float32 has 8 MiB.
LONGEST_SIDE = 128

#: Voxel types that a volume may be stored in.
DTYPES = ("uint8", "int16", "uint16", "float32")

#: zstandard's level: 15 costs half a second a scan, once, at import, and decompresses as fast; above it nothing is won.
_LEVEL = 15


#: How many blocks are decoded in one sweep: two megabytes of uint8 voxels, which a processor's cache holds.
_TOGETHER = 64


@dataclass(frozen=True)
class Box:
    """A sub-volume: its first voxel and its size along the three axes."""

    origin: Triple
    size: Triple

    @property
    def stop(self) -> Triple:
        """One past the last voxel along each axis."""
        (x, y, z), (i, j, k) = self.origin, self.size
        return (x + i, y + j, z + k)

    def slices(self, start: Triple = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Return the index of this box in an array whose first voxel is `start`."""
        (a, b, c), (x, y, z), (i, j, k) = start, self.origin, self.stop
        return (slice(x - a, i - a), slice(y - b, j - b), slice(z - c, k - c))

    def within(self, shape: Triple) -> bool:
        """Tell whether the box is not empty and lies inside a volume of `shape`."""
        return all(o >= 0 and s > 0 and o + s <= n for o, s, n in zip(self.origin, self.size, shape, strict=True))

    def meet(self, other: Box) -> Box:
        """Return what this box and an overlapping one share."""
        low = [max(a, b) for a, b in zip(self.origin, other.origin, strict=True)]
        high = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box((low[0], low[1], low[2]), (high[0] - low[0], high[1] - low[1], high[2] - low[2]))


@dataclass(frozen=True)
class BlockGrid:
    """How a volume of `shape` is cut into cubes of `side`; those at the upper edges are smaller.

    Blocks are numbered from 0 in C order.
    """

    shape: Triple
    side: int = SIDE

    @cached_property
    def counts(self) -> Triple:
        """Number of blocks along each axis."""
        i, j, k = (-(-length // self.side) for length in self.shape)
        return (i, j, k)

    def __len__(self) -> int:
        return prod(self.counts)

    def box(self, block: int) -> Box:
        """Return the sub-volume that block number `block` covers."""
        _, rows, columns = self.counts
        place = (block // (rows * columns), block // columns % rows, block % columns)
        x, y, z = (index * self.side for index in place)
        i, j, k = (min(self.side, length - start) for length, start in zip(self.shape, (x, y, z), strict=True))
        return Box((x, y, z), (i, j, k))

    def cover(self, box: Box) -> Box:
        """Return the cubes of whole `side` that a box touches; at the upper edges they reach beyond the volume."""
        low = [start // self.side * self.side for start in box.origin]
        high = [-(-stop // self.side) * self.side for stop in box.stop]
        return Box((low[0], low[1], low[2]), (high[0] - low[0], high[1] - low[1], high[2] - low[2]))

    def sweeps(self, box: Box) -> Iterator[Box]:
        """Cut a box along the first axis, between blocks, so that each part touches few; see `_TOGETHER`."""
        _, j, k = (length // self.side for length in self.cover(box).size)
        step = max(1, _TOGETHER // (j * k)) * self.side
        start, (stop, *_) = box.origin[0], box.stop
        while start < stop:
            end = min(stop, (start // self.side) * self.side + step)
            yield Box((start, *box.origin[1:]), (end - start, *box.size[1:]))
            start = end

    def runs(self, box: Box) -> Iterator[range]:
        """Yield the blocks that `box` touches, as runs of consecutive numbers along the last axis."""
        low = [start // self.side for start in box.origin]
        high = [(stop - 1) // self.side + 1 for stop in box.stop]
        _, rows, columns = self.counts
        for i, j in product(range(low[0], high[0]), range(low[1], high[1])):
            start = (i * rows + j) * columns
            yield range(start + low[2], start + high[2])


def place(scan: int, kind: str, block: int) -> int:
    """Return what a block's CRC-32 starts from: the CRC-32 of its scan, kind and number."""
    return zlib.crc32(f"{scan}/{kind}/{block}".encode())


def encode(voxels: NDArray[np.generic], codec: str = CODECS[0], start: int = 0) -> tuple[bytes, int]:
    """Compress one block.

    Parameters
    ----------
    voxels : ndarray
        The block, of one of `DTYPES`.
    codec : str
        One of `CODECS` that fits its type.
    start : int
        What the CRC-32 starts from; see `place`.

    Returns
    -------
    data : bytes
        Empty for a block of zeros.
    crc32 : int
        CRC-32 of `data`.
    """
    if codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}")
    raw = filters.apply(codec, voxels)
    # Bytes, not values, decide: a negative zero is a value like any other.
    if raw.count(0) == len(raw):
        return b"", zlib.crc32(b"", start)
    data = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(raw)
    return data, zlib.crc32(data, start)


def unpack(
    data: bytes,
    crc32: int,
    size: Triple,
    dtype: np.dtype[np.generic],
    decompressor: zstandard.ZstdDecompressor,
    codec: str = CODECS[0],
    start: int = 0,
) -> bytes:
    """Check and decompress one block; `assembly.assemble` turns it and its neighbours into voxels.

    Parameters
    ----------
    data : bytes
        What `encode` returned.
    crc32 : int
        The stored CRC-32 of `data`.
    size : tuple of int
        Shape of the block, which its place in the volume decides and never the bytes.
    dtype : dtype
        Voxel type of the volume.
    decompressor : ZstdDecompressor
        The calling thread's own.
    codec : str
        One of `CODECS`; the volume's.
    start : int
        What the CRC-32 starts from; see `place`.

    Returns
    -------
    bytes
        The filtered block; empty for a block of zeros.

    Raises
    ------
    ScanFault
        `CHECKSUM`, `TRUNCATED` or `CORRUPT`.
    """
    found = zlib.crc32(data, start)
    if found != crc32:
        raise ScanFault(Fault.CHECKSUM, f"CRC-32 {found:#010x}, stored {crc32:#010x}")
    return _decompressed(data, filters.size_of(codec, size, dtype), decompressor) if data else b""


def _decompressed(data: bytes, wanted: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
    try:
        declared = zstandard.frame_content_size(data)
        if declared != wanted:
            raise ScanFault(Fault.TRUNCATED, f"{declared} bytes declared, {wanted} wanted")
        # The declared size bounds the memory; a window may not ask for more than any block needs.
        raw = decompressor.decompress(data, max_output_size=wanted, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ScanFault(Fault.CORRUPT, str(error)) from error
    if len(raw) != wanted:
        raise ScanFault(Fault.TRUNCATED, f"{len(raw)} bytes decompressed, {wanted} wanted")
    return raw
