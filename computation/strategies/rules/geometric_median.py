"""Geometric median: the point whose distances to all vectors have the least sum.

Pillutla et al. 2022, "Robust aggregation for federated learning", arXiv 1912.13445, algorithm 2: Weiszfeld's
iteration, smoothed where it meets a vector. They stop after a few steps, each of which reads all vectors; here a step
is one on a small matrix, and it goes on until nothing moves.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.rules.base import Array, Cloud

__all__ = ["geometric_median", "weiszfeld"]

#: Distances below this part of the usual one are taken for it.
_SMOOTHING = 1e-6
#: Largest change of a weight at which the iteration is over, and the most steps that it may have.
_STILL, _MOST = 1e-12, 1_000


def geometric_median(cloud: Cloud, byzantine: int = 0) -> Array:
    """Return the weights of the geometric median, which sum to one.

    The start is the median of each coordinate, from which an attacker who is far away is seen to be; he then weighs as
    little as he is far. Any `f` vectors move the result by at most `2 (n - f) / (n - 2 f)` times what the honest ones
    lie apart.
    """
    from_median = np.sqrt(np.diagonal(cloud.products))
    smoothing = _SMOOTHING * float(np.median(from_median))
    weights = _inverse(from_median, smoothing)
    for _ in range(_MOST):
        before, weights = weights, weiszfeld(cloud, weights, smoothing)
        if np.abs(weights - before).max() <= _STILL:
            break
    return weights


def weiszfeld(cloud: Cloud, weights: Array, smoothing: float) -> Array:
    """Return the weights after one step: each vector weighs the inverse of its distance, `smoothing` at least."""
    return _inverse(cloud.distances(weights), smoothing)


def _inverse(distances: Array, smoothing: float) -> Array:
    """Return weights in proportion to the inverse distances; those without any distance share all weight."""
    held = np.maximum(distances, smoothing)
    if not held.all():
        held = np.where(held > 0, np.inf, 1.0)
    inverse = held.min() / held
    weights: Array = inverse / inverse.sum()
    return weights
