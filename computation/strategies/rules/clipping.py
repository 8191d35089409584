"""Norm clipping: the longest updates are scaled down to the length of the next one.

Allouah et al. 2024, "Adaptive gradient clipping for robust federated learning", arXiv 2405.14432, algorithm 1. How
many are scaled follows from `f`, so there is no bound to tune while gradients shrink.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.rules.base import Array

__all__ = ["scales"]


def scales(norms: Array, byzantine: int) -> Array:
    """Return what each update is multiplied by, shape `(n,)`, from its norm.

    The `floor(2 f (n - f) / n)` longest are cut to the norm of the next.
    """
    count = len(norms)
    cut = 2 * byzantine * (count - byzantine) // count
    bound = np.sort(norms)[count - 1 - cut]
    return np.where(norms > bound, bound / np.where(norms > 0, norms, 1.0), 1.0)
