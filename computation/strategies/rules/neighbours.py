"""Nearest-neighbour mixing: each vector becomes the mean of the `n - f` nearest ones, itself among them.

Allouah et al. 2023, "Fixing by mixing: a recipe for optimal Byzantine ML under heterogeneity", arXiv 2302.01772,
algorithm 2. It stands before another rule, and makes it withstand that the scans of sites differ.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.rules.base import Array, Cloud

__all__ = ["mixing"]


def mixing(cloud: Cloud, byzantine: int) -> Array:
    """Return what each mixed vector is made of, shape `(n, n)`, each row of sum one; of equally near ones the first."""
    kept = cloud.size - byzantine
    rows = np.zeros((cloud.size, cloud.size))
    nearest = np.argsort(cloud.squares, axis=1, kind="stable")[:, :kept]
    np.put_along_axis(rows, nearest, 1 / kept, axis=1)
    return rows
