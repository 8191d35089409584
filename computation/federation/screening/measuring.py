"""Sizes of updates and the angles between them, from one pass over the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from computation.wire.payload import Vector

__all__ = ["cosines", "norms", "products"]

#: Values taken at a time: the blocks of a few sites stay in the second-level cache.
_BLOCK = 8_192


def products(
    vectors: Sequence[Vector],
    origin: Vector,
    rows: int | None = None,
    each: Callable[[int, NDArray[np.float64]], None] | None = None,
) -> NDArray[np.float64]:
    """Return the inner products of all `vector - origin`, in float64 and in blocks, so that no second model is held.

    Parameters
    ----------
    vectors : sequence of numpy.ndarray
        Each of shape `(n,)`.
    origin : numpy.ndarray
        Shape `(n,)`.
    rows : int, optional
        Only so many of the first rows, and of the first columns, are wanted; the others are zero.
    each : callable, optional
        Is shown where each block begins and the block, a row for each vector, which holds until the next.

    Returns
    -------
    numpy.ndarray
        Symmetric, one row for each vector; what leaves the range of float64 is infinite or no number.
    """
    count = len(vectors)
    total = np.zeros((count, count))
    away = np.empty((count, min(_BLOCK, origin.size)))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, origin.size, _BLOCK):
            here = away[:, : min(_BLOCK, origin.size - start)]
            for row, vector in zip(here, vectors, strict=True):
                np.subtract(vector[start : start + _BLOCK], origin[start : start + _BLOCK], out=row, dtype=np.float64)
            # Not `dot`: BLAS would share the block out to threads, for longer than it takes, and add in their order.
            for place in range(count if rows is None else rows):
                total[place, place:] += np.multiply(here[place:], here[place]).sum(axis=1)
                total[place:, place] = total[place, place:]
            if each:
                each(start, here)
    return total


def norms(table: NDArray[np.float64]) -> list[float]:
    """Return the Euclidean norms behind a table of inner products; one that float64 cannot hold is infinite."""
    squares = np.diagonal(table)
    return [float(norm) for norm in np.where(np.isfinite(squares), np.sqrt(squares), np.inf)]


def cosines(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines behind a table of inner products; 0 where a vector is nothing or no number."""
    lengths = np.sqrt(np.diagonal(table))
    with np.errstate(all="ignore"):
        found = table / lengths[:, None] / lengths
    return np.clip(np.where(np.isfinite(found), found, 0.0), -1.0, 1.0)
