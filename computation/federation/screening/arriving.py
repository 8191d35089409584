"""Updates that come one by one, where nobody waits for a round: each is judged once, beside the others' newest.

The others stay as they were judged; what is remembered of them does not change until their next one comes. Of a site
whose newest update was left out, nothing is a measure. Whoever is slow sends updates of an earlier part of the
learning, when the learning rate was another: so sizes are compared in units of the one that each was made with. Drift
is not judged: each is away from the others for want of their rounds, too, and that adds up like a lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening import copies, measuring
from computation.federation.screening.judging import LEARNT, Judgement, Measured, judge
from computation.federation.screening.state import Bounds, Mark, State
from computation.federation.screening.together import Screened, clipped
from computation.strategies.base import Contribution
from computation.wire.payload import Vector

__all__ = ["Arrivals"]

T = TypeVar("T")


class Arrivals:
    """The newest update of each site.

    Parameters
    ----------
    parts : mapping of slice
        Parts of the vector that are judged apart, as for `screen`.
    bounds : Bounds
        The owner's.
    state : State
        What is remembered; plain JSON in a checkpoint.
    """

    def __init__(self, parts: Mapping[str, slice], bounds: Bounds, state: State) -> None:
        self.parts, self.bounds, self.state = parts, bounds, state
        self._waiting: dict[str, tuple[Contribution, Vector]] = {}
        self._marks: dict[str, Mark] = {}
        #: Of those that count or wait, in units of their learning rates; and all products of two, by part.
        self._updates: dict[str, Vector] = {}
        self._products: dict[str, dict[frozenset[str], float]] = {part: {} for part in parts}

    def add(self, one: Contribution, origin: Vector, unit: float = 1.0) -> None:
        """Take in a contribution to be judged; nothing comes of one that has been.

        Parameters
        ----------
        one : Contribution
            Its `model` is another than that of each other one of the site.
        origin : numpy.ndarray
            What its update is measured from.
        unit : float
            Learning rate of its steps; positive.
        """
        mark = copies.marked([one], self.parts[LEARNT])[one.site]
        if self._marks.get(one.site) == mark:
            return
        if one.site in self.state.excluded:
            self._waiting[one.site] = one, origin
            return
        self._marks[one.site], self._waiting[one.site] = mark, (one, origin)
        self._updates[one.site] = update = _update(one.values, origin, unit)
        names = [one.site, *(other for other in self._updates if other != one.site)]
        for part, where in self.parts.items():
            vectors = [self._updates[name][where] for name in names]
            row = measuring.products(vectors, np.zeros_like(update[where]), rows=1)[0]
            self._products[part] |= {frozenset((one.site, name)): float(x) for name, x in zip(names, row, strict=True)}

    def judge(self) -> Screened:
        """Judge what has come since the last time, as one round beside what counts of before."""
        new = {name: both for name, both in self._waiting.items() if name not in self.state.excluded}
        refused = dict.fromkeys(sorted({*self._waiting} - {*new}), "excluded")
        self._waiting = {}
        if not new:
            return Screened((), refused, {}, self.state)
        sites = tuple(sorted({*self._updates} - {*self.state.excluded}))
        tables = {part: self._table(part, sites) for part in self.parts}
        marks = {site: self._marks[site] for site in sites} if self.bounds.copies else {}
        done = judge(Measured(sites, tables, marks), self.state, self.bounds)
        self.state = _only(new, self.state, done.state)
        for site in sorted(new):
            if site in done.out:
                refused[site] = "excluded" if site in self.state.excluded else done.out[site]
                self._updates.pop(site)
            else:
                self._scale(site, done)
        return Screened(
            tuple(clipped(*new[site], self.parts, done.scales(site)) for site in sorted(new) if site not in refused),
            refused,
            {site: done.worst(site) for site in sorted(new)},
            self.state,
            {twin: first for twin, first in done.twins.items() if twin in new},
        )

    def _table(self, part: str, sites: tuple[str, ...]) -> NDArray[np.float64]:
        known = self._products[part]
        return np.array([[known[frozenset((one, other))] for other in sites] for one in sites])

    def _scale(self, site: str, done: Judgement) -> None:
        """Let what counts of an update be what it is from now on."""
        for part, scale in done.scales(site).items():
            if scale < 1:
                self._updates[site][self.parts[part]] *= scale
                known = self._products[part]
                known |= {pair: x * scale ** (3 - len(pair)) for pair, x in known.items() if site in pair}


def _update(values: Vector, origin: Vector, unit: float) -> Vector:
    # What leaves the range of the dtype is infinite, and judged as such.
    with np.errstate(over="ignore"):
        update: Vector = ((values.astype(np.float64) - origin) / unit).astype(values.dtype)
    return update


def _only(sites: Mapping[str, object], before: State, after: State) -> State:
    """Return the state before, with what is new of some sites."""

    def of(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T]:
        return {**old, **{site: new[site] for site in sites if site in new}}

    return State(
        {part: of(before.pasts.get(part, {}), table) for part, table in after.pasts.items()},
        of(before.refused, after.refused),
        tuple(sorted({*before.excluded, *({*sites} & {*after.excluded})})),
        of(before.opposed, after.opposed),
        of(before.marks, after.marks),
        of(before.barren, after.barren),
    )
