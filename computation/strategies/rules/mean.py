"""The plain mean, in which each site has one voice: what is left of it when clipping or mixing came before."""

from __future__ import annotations

from computation.strategies.rules.base import Array

__all__ = ["mean"]


def mean(block: Array, byzantine: int = 0) -> Array:
    """Return the mean of each column."""
    middle: Array = block.mean(axis=0)
    return middle
