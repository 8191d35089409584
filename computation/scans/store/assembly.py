"""A sub-volume put together from the blocks that it touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.scans.store import filters
from computation.scans.store.blocks import BlockGrid, Box, Triple

__all__ = ["assemble"]


def assemble(
    grid: BlockGrid, box: Box, found: Iterable[tuple[Box, bytes]], codec: str, dtype: np.dtype[np.generic]
) -> NDArray[Any]:
    """Undo the filter of blocks and cut a sub-volume out of them.

    Parameters
    ----------
    grid : BlockGrid
        How the volume is cut.
    box : Box
        The sub-volume.
    found : iterable of (Box, bytes)
        Place and filtered bytes of each block that the box touches, in any order; those of zeros may be left out.
    codec : str
        One of `filters.CODECS`.
    dtype : dtype
        Voxel type of the volume.

    Returns
    -------
    ndarray of `dtype`, shape of the box
    """
    if codec == filters.DELTA:
        return _summed(grid, box, found, dtype)
    held = list(found)
    if filters.share(codec) > 1 and all(sides[2] % filters.share(codec) == 0 for sides in _sides(grid, held)):
        return _unpacked(grid, box, held, codec).astype(dtype, copy=False)
    voxels: NDArray[Any] = np.zeros(box.size, dtype)
    for here, raw in held:
        shared = box.meet(here)
        part = filters.undo(codec, raw, here.size, dtype)
        voxels[shared.slices(box.origin)] = part[shared.slices(here.origin)]
    return voxels


def _sides(grid: BlockGrid, held: list[tuple[Box, bytes]]) -> Iterator[Triple]:
    yield (grid.side,) * 3
    for here, _ in held:
        yield here.size


def _summed(grid: BlockGrid, box: Box, found: Iterable[tuple[Box, bytes]], dtype: np.dtype[np.generic]) -> NDArray[Any]:
    """Lay the differences of all blocks side by side and sum them in one go."""
    cover, side = grid.cover(box), grid.side
    i, j, k = cover.size
    # What lies beyond a smaller block at an upper edge stays zero and is cut away.
    field = np.zeros((k, i // side, j // side, side, side), f"<u{dtype.itemsize}")
    for here, raw in found:
        x, y, z = (start - first for start, first in zip(here.origin, cover.origin, strict=True))
        i, j, k = here.size
        field[z : z + k, x // side, y // side, :i, :j] = filters.differences(raw, here.size, dtype)
    voxels = filters.summed(field, side, box.slices(cover.origin))
    return voxels.view(dtype.newbyteorder("<")).astype(dtype, copy=False)


def _unpacked(grid: BlockGrid, box: Box, held: list[tuple[Box, bytes]], codec: str) -> NDArray[np.uint8]:
    """Lay the packed rows of all blocks side by side, and unpack only those that are wanted."""
    cover, share = grid.cover(box), filters.share(codec)
    i, j, k = cover.size
    field = np.zeros((i, j, k // share), np.uint8)
    for here, raw in held:
        x, y, z = (start - first for start, first in zip(here.origin, cover.origin, strict=True))
        i, j, k = here.size
        rows = np.frombuffer(raw, np.uint8).reshape(i, j, k // share)
        field[x : x + i, y : y + j, z // share : (z + k) // share] = rows
    wanted, columns, layers = box.slices(cover.origin)
    return filters.unpacked(codec, np.ascontiguousarray(field[wanted, columns]))[..., layers]
