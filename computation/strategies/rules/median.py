"""Coordinate-wise median.

Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal statistical rates", arXiv 1803.01498,
definition 1. Of an even number, the mean of the two in the middle.
"""

from __future__ import annotations

from computation.strategies.rules.base import Array

__all__ = ["median"]


def median(block: Array, byzantine: int = 0) -> Array:
    """Return the median of each column; it lies among the honest values where these are a majority."""
    block.sort(axis=0)
    middle: Array = block[(len(block) - 1) // 2] / 2 + block[len(block) // 2] / 2
    return middle
