"""Where in a scan a sub-volume is cut: uniformly, around foreground, around the centre, or on a grid.

Every function is pure: the same generator state gives the same place. None reads a voxel; foreground is known from the
per-block counts that the database keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from computation.scans.store.blocks import BlockGrid, Triple

__all__ = ["PLACES", "centred", "foreground", "grid", "uniform"]

#: How the first voxel of a random sub-volume may be drawn.
PLACES = ("uniform", "foreground", "centre")


def uniform(room: Triple, generator: np.random.Generator) -> Triple:
    """Draw any place with equal chance.

    Parameters
    ----------
    room : tuple of int
        Highest first voxel along each axis: sides of the scan less sides of the sub-volume.
    generator : numpy Generator
        Source of the draw.

    Returns
    -------
    tuple of int
        First voxel.
    """
    x, y, z = (int(start) for start in generator.integers(0, np.array(room), endpoint=True))
    return (x, y, z)


def centred(room: Triple, generator: np.random.Generator) -> Triple:
    """Draw a place near the middle: normal with a standard deviation of a quarter of the room, drawn again if outside.

    After the coordinate generator that the published sub-volume MeshNet was trained with.
    """
    return _each(room, lambda most: _truncated(most, generator))


def foreground(
    room: Triple, size: Triple, counts: NDArray[np.uint32], blocks: BlockGrid, generator: np.random.Generator
) -> Triple:
    """Draw a place whose middle lies in a block with foreground, blocks weighted by how much they hold.

    Parameters
    ----------
    room, size : tuple of int
        Highest first voxel, and sides of the sub-volume.
    counts : ndarray of uint32
        Foreground voxels of each block; a scan without any is drawn from uniformly.
    blocks : BlockGrid
        Where the blocks lie.
    generator : numpy Generator
        Source of the draw.

    Returns
    -------
    tuple of int
        First voxel; moved inwards where the sub-volume would leave the scan.
    """
    total = np.cumsum(counts.ravel(), dtype=np.int64)
    if total[-1] == 0:
        return uniform(room, generator)
    chosen = int(np.searchsorted(total, generator.integers(0, total[-1]), side="right"))
    box = blocks.box(chosen)
    middle = generator.integers(np.array(box.origin), np.array(box.stop))
    x, y, z = (int(start) for start in np.clip(middle - np.array(size) // 2, 0, np.array(room)))
    return (x, y, z)


def grid(shape: Triple, size: Triple, overlap: Triple = (0, 0, 0)) -> tuple[Triple, ...]:
    """Cover a scan: every voxel is in at least one sub-volume.

    Parameters
    ----------
    shape, size : tuple of int
        Sides of the scan and of the sub-volumes.
    overlap : tuple of int
        At least so many voxels are shared by neighbours along each axis; less than the side.

    Returns
    -------
    tuple of tuple of int
        First voxels, in C order. The last along an axis ends with the scan.
    """
    axes = [_starts(*one) for one in zip(shape, size, overlap, strict=True)]
    return tuple((x, y, z) for x, y, z in product(*axes))


def _starts(length: int, side: int, shared: int) -> list[int]:
    room, step = length - side, side - shared
    return [*range(0, room, step), room]


def _each(room: Triple, draw: Callable[[int], int]) -> Triple:
    x, y, z = (draw(most) for most in room)
    return (x, y, z)


def _truncated(most: int, generator: np.random.Generator) -> int:
    while True:
        start = round(float(generator.normal(most / 2, max(most, 1) / 4)))
        if 0 <= start <= most:
            return start
