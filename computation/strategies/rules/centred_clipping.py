"""Centred clipping: the mean of all vectors, each drawn to within a radius of a centre, which is where that mean was.

Karimireddy et al. 2021, "Learning from history for Byzantine robust optimization", arXiv 2012.10333, section 4. They
start at the last round's result and tune the radius. Here the start is the median of each coordinate and the radius
the median distance to it, so that nothing is to be tuned while gradients shrink, and nothing need be remembered.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.rules.base import Array, Cloud

__all__ = ["centred_clipping", "clipped"]

_PASSES = 3


def centred_clipping(cloud: Cloud, byzantine: int = 0) -> Array:
    """Return the weights of the clipped mean; what they lack to one is the weight of the median of each coordinate.

    Of a majority of honest vectors, one at least is no nearer than the radius: so `f` vectors move the result by at
    most `f / n` of an honest distance in each pass.
    """
    distances = np.sort(np.sqrt(np.diagonal(cloud.products)))
    radius = float(distances[(cloud.size - 1) // 2])
    return clipped(cloud, np.zeros(cloud.size), radius, _PASSES)


def clipped(cloud: Cloud, start: Array, radius: float, passes: int) -> Array:
    """Return the weights after some passes `v <- v + mean(min(1, radius / |x - v|) (x - v))` from a start."""
    weights = start
    for _ in range(passes):
        distances = cloud.distances(weights)
        factors = np.minimum(1.0, radius / np.where(distances > 0, distances, np.inf))
        factors[distances <= radius] = 1.0
        weights = weights * (1 - factors.mean()) + factors / cloud.size
    return weights
