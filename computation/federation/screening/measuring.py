"""Sizes of updates and the angles between them, from one pass over the values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from computation.wire.payload import Vector

__all__ = ["cosines", "norms", "products"]

#: Values taken at a time: the blocks of a few sites stay in the second-level cache.
_BLOCK = 8_192
#: Values of all pairs up to which one call of NumPy's for all of them is quicker than one for each row.
_FEW = 16_384


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
    away, room = np.empty((2, count, min(_BLOCK, origin.size)))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, origin.size, _BLOCK):
            near = origin[start : start + _BLOCK].astype(np.float64)
            here = away[:, : near.size]
            for row, vector in zip(here, vectors, strict=True):
                row[:] = vector[start : start + _BLOCK]
            if near.any():  # of gradients, nothing is taken off
                here -= near
            _add(total, here, room[:, : near.size], count if rows is None else rows)
            if each:
                each(start, here)
    for place in range(count if rows is None else rows):
        total[place:, place] = total[place, place:]
    return total


def _add(total: NDArray[np.float64], here: NDArray[np.float64], room: NDArray[np.float64], rows: int) -> None:
    """Add a block's products to the first rows of a table, from the diagonal on; how, its bits do not show."""
    # Not `dot`: BLAS would share the block out to threads, for longer than it takes, and add in their order.
    if len(here) * here.size <= _FEW:
        total[:rows] += np.add.reduce(here[:rows, None] * here, axis=2)
        return
    for place in range(rows):
        total[place, place:] += np.add.reduce(np.multiply(here[place:], here[place], out=room[place:]), axis=1)


def norms(table: NDArray[np.float64]) -> list[float]:
    """Return the Euclidean norms behind a table of inner products; one that float64 cannot hold is infinite."""
    return [math.sqrt(square) if math.isfinite(square) else math.inf for square in table.diagonal().tolist()]


def cosines(table: NDArray[np.float64]) -> list[list[float]]:
    """Return the cosines behind a table of inner products, row by row; 0 where a vector is nothing or no number."""
    lengths = list(map(math.sqrt, table.diagonal().tolist()))
    return [
        [_cosine(product, one, other) for product, other in zip(row, lengths, strict=True)]
        for row, one in zip(table.tolist(), lengths, strict=True)
    ]


def _cosine(product: float, one: float, other: float) -> float:
    found = product / one / other if one and other else 0.0
    return min(max(found, -1.0), 1.0) if math.isfinite(found) else 0.0
