"""Krum: the one vector that is nearest to its `n - f - 2` nearest others; Multi-Krum: the mean of the best `n - f`.

Blanchard et al. 2017, "Machine learning with adversaries: Byzantine tolerant gradient descent", NeurIPS 30, section 4.
They ask for `n >= 2 f + 3`.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.rules.base import Array, Cloud

__all__ = ["krum", "multi_krum", "scores"]


def krum(cloud: Cloud, byzantine: int) -> Array:
    """Return all weight for the vector with the least score; of equal ones for the first."""
    weights = np.zeros(cloud.size)
    weights[np.argmin(scores(cloud, byzantine))] = 1.0
    return weights


def multi_krum(cloud: Cloud, byzantine: int) -> Array:
    """Return equal weights for the `n - f` vectors with the least scores."""
    weights, chosen = np.zeros(cloud.size), cloud.size - byzantine
    weights[np.argsort(scores(cloud, byzantine), kind="stable")[:chosen]] = 1 / chosen
    return weights


def scores(cloud: Cloud, byzantine: int) -> Array:
    """Return the sum of the squared distances of each vector to its `n - f - 2` nearest others, shape `(n,)`."""
    near = np.sort(cloud.squares, axis=1)[:, 1 : cloud.size - byzantine - 1]
    total: Array = near.sum(axis=1)
    return total
