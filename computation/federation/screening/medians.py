"""Medians of a few plain numbers, which a round takes dozens of; `statistics` spends longer on each than they have."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

__all__ = ["high", "low", "mean", "without"]


def without(everybody: Sequence[float], own: Iterable[float]) -> list[float]:
    """Return sorted numbers, sorted, without some that are among them."""
    rest = [*everybody]
    for number in own:
        del rest[bisect_left(rest, number)]
    return rest


def mean(numbers: Sequence[float]) -> float:
    """Return the median of sorted numbers, of an even number the mean of the two in the middle; 0 of none."""
    middle, odd = divmod(len(numbers), 2)
    if odd or not numbers:
        return numbers[middle] if odd else 0.0
    return (numbers[middle - 1] + numbers[middle]) / 2


def high(numbers: Sequence[float]) -> float:
    """Return the same, of an even number the higher of the two in the middle."""
    return numbers[len(numbers) // 2] if numbers else 0.0


def low(numbers: Sequence[float]) -> float:
    """Return the same, of an even number the lower of the two in the middle."""
    return numbers[(len(numbers) - 1) // 2] if numbers else 0.0
