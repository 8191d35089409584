"""What a rule is: how one round's vectors become one, and how many of them it takes.

A rule works on `n` vectors of which at most `f` come from sites that send whatever they like. There are two kinds. A
coordinate-wise rule looks at one place of all vectors at a time. A weighing one sees the vectors only through their
inner products, and answers with what each vector weighs: so all its steps are on a small matrix, and the vectors
themselves are read twice, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Cloud", "Coordinatewise", "Weighing"]

#: Values in float64, in which every rule counts.
Array = npt.NDArray[np.float64]

#: Takes a block of shape `(n, b)`, which it may overwrite, and `f`; returns the block of the result, shape `(b,)`.
Coordinatewise = Callable[[Array, int], Array]


@dataclass(frozen=True)
class Cloud:
    """How `n` vectors lie around their coordinate-wise median `m`, which no minority can move far.

    Attributes
    ----------
    products : numpy.ndarray
        Shape `(n, n)`: the inner product of `x[i] - m` and `x[j] - m`.
    """

    products: Array

    @property
    def size(self) -> int:
        """Number of vectors."""
        return len(self.products)

    @property
    def squares(self) -> Array:
        """Squared distance of each vector to each, shape `(n, n)`, zero to itself."""
        own = np.diagonal(self.products)
        squares: Array = np.maximum(own[:, None] + own[None, :] - 2 * self.products, 0.0)
        np.fill_diagonal(squares, 0.0)
        return squares

    def distances(self, weights: Array) -> Array:
        """Return the distance of each vector to the point `m + sum(weights[i] * (x[i] - m))`, shape `(n,)`."""
        crossed = self.products @ weights
        squares = np.diagonal(self.products) - 2 * crossed + weights @ crossed
        return np.sqrt(np.maximum(squares, 0.0))

    def mixed(self, rows: Array) -> Cloud:
        """Return the cloud of other vectors: each a mean of these, with the weights of one row, which sum to one."""
        return Cloud(rows @ self.products @ rows.T)


#: Takes a cloud and `f`; returns weights `w` of shape `(n,)`. The result is the point that `Cloud.distances` names.
Weighing = Callable[[Cloud, int], Array]
