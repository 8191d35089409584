"""Means over people and seeds, with confidence intervals over people.

A person's value is the mean over seeds, and for each seed over the sites' models where these differ; people are the
sampling unit, because seeds of one person are not independent of each other. The intervals are Student's t: with five
people they cover 95 % where people's values are about normal, while a percentile bootstrap would cover 84 %. They say
how much the people decide, not how much the seed does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.oasis.results import Row

_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval, which nobody knows of a single person: not a number."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Interval):
    """A mean paired difference, and the number of seeds on which it rests."""

    seeds: int

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.seeds} common seed{'s' if self.seeds > 1 else ''}"


def student(values: Sequence[float]) -> Interval:
    """Return the mean and Student's t interval of the values, one for each person."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + _LEVEL) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def complete(rows: Sequence[Row]) -> list[Row]:
    """Return an arm's rows without the seeds that lack a site or a person which another seed has.

    A site that is missing would move the mean of its seed by what that site is better or worse than the others.
    """
    tested = {seed: {(row.site, row.person) for row in rows if row.seed == seed} for seed in seeds(rows)}
    most = max(tested.values(), key=len, default=set())
    return [row for row in rows if tested[row.seed] >= most]


def seeds(rows: Sequence[Row]) -> list[int]:
    """Return the seeds that the rows come from."""
    return sorted({row.seed for row in rows})


def per_person(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Return each person's mean of one column of an arm's complete seeds; a class never found counts as 0."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in complete(rows):
        values.setdefault(row.person, {}).setdefault(row.seed, []).append(getattr(row, name) or 0.0)
    return {person: float(np.mean([np.mean(some) for some in values[person].values()])) for person in sorted(values)}


def summary(rows: Sequence[Row], name: str) -> Interval:
    """Return the mean over people of one column of an arm."""
    return student(list(per_person(rows, name).values()))


def difference(ours: Sequence[Row], theirs: Sequence[Row], name: str) -> Difference | None:
    """Return the mean paired difference of two arms over the people, and only with the seeds, that both have."""
    ours, theirs = complete(ours), complete(theirs)
    both = set(seeds(ours)) & set(seeds(theirs))
    if not both:
        return None
    one, other = (per_person([row for row in rows if row.seed in both], name) for rows in (ours, theirs))
    found = student([one[person] - other[person] for person in sorted(one.keys() & other.keys())])
    return Difference(found.mean, found.low, found.high, len(both))
