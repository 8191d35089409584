"""Coordinate-wise trimmed mean.

Yin et al. 2018, "Byzantine-robust distributed learning: towards optimal statistical rates", arXiv 1803.01498,
definition 2, with a count in the place of a share.
"""

from __future__ import annotations

from computation.strategies.rules.base import Array

__all__ = ["trimmed_mean"]


def trimmed_mean(block: Array, byzantine: int) -> Array:
    """Return the mean of each column without its `byzantine` smallest and largest values."""
    if byzantine:
        block.sort(axis=0)
    kept: Array = block[byzantine : len(block) - byzantine].mean(axis=0)
    return kept
