"""Means over people and seeds, with bootstrap confidence intervals over people.

A person's value is the mean over seeds, and over the sites' models where these differ; people are the sampling unit,
because seeds of one person are not independent of each other. With five people an interval is wide and honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.oasis.results import Row

RESAMPLES = 10_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : sequence of float
        One for each person.
    seed : int
        Of the resampling.
    resamples : int
        Samples drawn.
    """
    table = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).integers(table.size, size=(resamples, table.size))
    means = table[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(table.mean()), float(low), float(high))


def per_person(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Return each person's mean of one column, over seeds and sites' models; a class never found counts as 0."""
    people = sorted({row.person for row in rows})
    return {
        person: float(np.mean([getattr(row, name) or 0.0 for row in rows if row.person == person])) for person in people
    }


def summary(rows: Sequence[Row], name: str) -> Interval:
    """Return the mean over people of one column."""
    return bootstrap(list(per_person(rows, name).values()))


def difference(ours: Sequence[Row], theirs: Sequence[Row], name: str) -> Interval | None:
    """Return the mean paired difference over the people, and only with the seeds, that both arms have."""
    seeds = {row.seed for row in ours} & {row.seed for row in theirs}
    if not seeds:
        return None
    one, other = (per_person([row for row in rows if row.seed in seeds], name) for rows in (ours, theirs))
    gaps: NDArray[np.float64] = np.array([one[person] - other[person] for person in sorted(one.keys() & other.keys())])
    return bootstrap(gaps.tolist())
