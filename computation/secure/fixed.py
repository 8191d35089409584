"""Real numbers as whole ones that add up modulo 2^64: a mask can hide these without rounding, and the sum is exact.

A site's update is first clipped to a norm that the owner sets, then multiplied by its share and by one power of two for
all, and rounded to whole numbers. Shares of all sites sum to one at most, so no sum of any of them can leave the range,
and a power of two costs no precision: with a norm of 1,000 the step is 2e-16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from computation.errors import ContributionError, SettingsError

__all__ = ["LOSS", "Scale", "Words", "norm", "real", "whole"]

#: Whole numbers modulo 2^64.
Words = npt.NDArray[np.uint64]
#: Real numbers as they are computed with.
Reals = npt.NDArray[np.floating]

#: A sum may be so large and no larger: half of what a signed word holds, so that rounding never matters.
_MOST = 2.0**62
_WORD = 2.0**63
#: Values taken at a time; see `strategies.average`.
_BLOCK = 32_768


@dataclass(frozen=True)
class Scale:
    """What a real number is multiplied by before it is rounded.

    Parameters
    ----------
    bound : float
        The largest magnitude that a site's numbers have before they are multiplied with its share.
    sites : int
        Sites that may be in a sum; each rounds by half a unit at most.

    Raises
    ------
    SettingsError
        If the sum over all sites could overflow.
    """

    bound: float
    sites: int

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf or self.factor * self.bound + self.sites / 2 >= _WORD:
            raise SettingsError(
                f"a sum over {self.sites} sites of numbers up to {self.bound:g} leaves the range of 64 bits; lower "
                "setting 'secure_norm'"
            )

    @property
    def factor(self) -> float:
        """The largest power of two at which the sum over all sites stays within its range."""
        return 2.0 ** math.floor(math.log2(_MOST / self.bound))


#: Of a mean loss, which rides along: clipped to about a million.
LOSS = 2.0**20


def norm(values: Reals, origin: Reals) -> float:
    """Return the Euclidean norm of `values - origin`, in float64 and in blocks."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, values.size, _BLOCK):
            away = np.subtract(values[start : start + _BLOCK], origin[start : start + _BLOCK], dtype=np.float64)
            total += float(np.multiply(away, away, out=away).sum())
    return math.sqrt(total) if math.isfinite(total) else math.inf


def whole(values: Reals, origin: Reals, times: float, out: Words) -> None:
    """Write `round(times * (values - origin))` as words.

    Parameters
    ----------
    values, origin : numpy.ndarray
        Shape `(n,)`.
    times : float
        The scale's factor, times the site's share, times what clipping leaves.
    out : numpy.ndarray
        Shape `(n,)`, uint64; negative numbers are their two's complement.

    Raises
    ------
    ContributionError
        If a number is not finite or beyond the range.
    """
    for start in range(0, values.size, _BLOCK):
        here = slice(start, start + _BLOCK)
        away = np.subtract(values[here], origin[here], dtype=np.float64)
        away *= times
        np.rint(away, out=away)
        if not np.abs(away).max(initial=0.0) <= _MOST:
            raise ContributionError("an update holds a number that is not finite or larger than its norm allows")
        out[here] = away.astype(np.int64).view(np.uint64)


def real(words: Words, divisor: float) -> npt.NDArray[np.float64]:
    """Return what a sum of words stands for.

    Parameters
    ----------
    words : numpy.ndarray
        Shape `(n,)`, uint64.
    divisor : float
        The scale's factor, times the sum of the shares of those that are in the sum.
    """
    return np.divide(words.view(np.int64), divisor, dtype=np.float64)


def total(terms: Sequence[Words]) -> Words:
    """Return the plain sum modulo 2^64; what masked ones have to come to."""
    summed = np.zeros_like(terms[0])
    for term in terms:
        summed += term
    return summed
