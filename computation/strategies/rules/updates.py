"""One round's vectors as a rule reads them: in float64, a block at a time, so that no second copy of all is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from computation.strategies.rules.base import Array, Cloud
from computation.strategies.rules.median import median
from computation.wire.payload import Vector

__all__ = ["Updates"]

#: Values of all vectors together that are read at a time: half a megabyte, which stays in the second-level cache.
_BLOCK = 65_536


@dataclass(frozen=True)
class Updates:
    """Vectors of one length, and what becomes of each while it is read.

    Attributes
    ----------
    vectors : sequence of numpy.ndarray
        Each of shape `(d,)`.
    origin : numpy.ndarray or None
        What updates are measured from, of shape `(d,)`; zero where there is none.
    scales : numpy.ndarray or None
        What each update is multiplied by, shape `(n,)`.
    rows : numpy.ndarray or None
        What each vector is mixed of after that, shape `(n, n)`.
    """

    vectors: Sequence[Vector]
    origin: Vector | None = None
    scales: Array | None = None
    rows: Array | None = None

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.vectors)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield places in the vectors, and the values there, shape `(n, b)`; whoever gets them may overwrite them."""
        size, width = self.vectors[0].size, max(_BLOCK // len(self), 1)
        for start in range(0, size, width):
            where = slice(start, min(start + width, size))
            block = np.stack([vector[where] for vector in self.vectors]).astype(np.float64, copy=False)
            if self.scales is not None:
                self._scale(block, where, self.scales)
            yield where, block if self.rows is None else self.rows @ block

    def _scale(self, block: Array, where: slice, scales: Array) -> None:
        """Scale the updates that are too long; the others keep every bit."""
        start = self._start(where)
        for row in np.flatnonzero(scales != 1):
            block[row] = start + scales[row] * (block[row] - start)

    def _start(self, where: slice) -> Array | float:
        return 0.0 if self.origin is None else self.origin[where].astype(np.float64)

    def norms(self) -> Array:
        """Return how long each update is."""
        squares = np.zeros(len(self))
        for where, block in self.blocks():
            block -= self._start(where)
            squares += np.einsum("ij,ij->i", block, block)
        return np.sqrt(squares)

    def cloud(self) -> Cloud:
        """Return how the vectors lie; it takes one reading."""
        products = np.zeros((len(self), len(self)))
        for _, block in self.blocks():
            block -= median(block.copy())
            products += block @ block.T
        return Cloud(products)

    def weigh(self, weights: Array, result: Vector) -> None:
        """Write down the point that weights stand for: what they lack to one is the median's, value by value."""
        total = float(weights.sum())
        rest = 1 - total
        if abs(rest) < 1e-12:  # the rounding of weights that sum to one
            weights, rest = weights / total, 0.0
        chosen = np.flatnonzero(weights)
        for where, block in self.blocks():
            middle = rest * median(block.copy()) if rest else 0.0
            result[where] = middle + np.einsum("i,ij->j", weights[chosen], block[chosen])
