"""One round's contributions, all in one place: what is kept of them, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening import copies, drift, measuring, sketching
from computation.federation.screening.judging import LEARNT, Measured, judge
from computation.federation.screening.state import Bounds, Finding, State
from computation.strategies.base import Contribution
from computation.wire.payload import Vector

__all__ = ["Screened", "clipped", "screen"]


@dataclass(frozen=True)
class Screened:
    """A round's contributions after screening.

    Attributes
    ----------
    kept : tuple of Contribution
        Those to combine, clipped where they had to be.
    refused : mapping of str
        Why each of the others is not among them: a word of `FINDINGS`.
    findings : mapping of Finding
        Of each site that was looked at, the worst over the parts of its vector.
    state : State
        For the next round.
    twins : mapping of str
        The site that counts for each `twin`.
    """

    kept: tuple[Contribution, ...]
    refused: Mapping[str, str]
    findings: Mapping[str, Finding]
    state: State
    twins: Mapping[str, str] = field(default_factory=dict)


def screen(
    contributions: Sequence[Contribution],
    origin: Vector,
    parts: Mapping[str, slice],
    state: State,
    bounds: Bounds,
    floor: float = 0.0,
) -> Screened:
    """Judge one round's contributions.

    Parameters
    ----------
    contributions : sequence of Contribution
        In any order.
    origin : numpy.ndarray
        What the strategy measures an update from (`Strategy.origin`), of the contributions' shape.
    parts : mapping of slice
        Parts of the vector that are judged apart, as `Learner.parts` names them: gradients and batch-norm statistics
        have sizes of their own. Directions and copies are those of `parameters`.
    state : State
        From the round before.
    bounds : Bounds
        The owner's.
    floor : float
        No update is measured by less than this share of the origin's own norm.
    """
    seen = sorted((one for one in contributions if one.site not in state.excluded), key=lambda one: one.site)
    sites = tuple(one.site for one in seen)
    state, sketches = _sketched(seen, parts[LEARNT], state, bounds)
    tables = {part: _products(part, seen, origin, where, sketches) for part, where in parts.items()}
    marks = copies.marked(seen, parts[LEARNT]) if bounds.copies else {}
    least = {part: floor * _norm(origin[where]) for part, where in parts.items()} if floor else {}
    measured = Measured(sites, tables, marks, least, None if sketches is None else sketches.rows)
    done = judge(measured, state, bounds)
    refused = {**done.out, **dict.fromkeys(done.state.excluded, "excluded")}
    return Screened(
        tuple(clipped(one, origin, parts, done.scales(one.site)) for one in seen if one.site not in done.out),
        {one.site: refused[one.site] for one in contributions if one.site in refused},
        {site: done.worst(site) for site in sites},
        done.state,
        done.twins,
    )


def _sketched(
    seen: Sequence[Contribution], where: slice, state: State, bounds: Bounds
) -> tuple[State, sketching.Sketches | None]:
    """Return the state with a seed for sketches, from what all offer before anybody knows it, and room for them."""
    if not (bounds.follows and len(seen) >= drift.FEWEST):
        return state, None
    if not state.paths.seed:
        digests = (values for _, values in copies.marked(seen, where).values())
        state = replace(state, paths=replace(state.paths, seed=sketching.seed(digests)))
    return state, sketching.Sketches(len(seen), seen[0].values[where].size, state.paths.seed)


def _products(
    part: str, seen: Sequence[Contribution], origin: Vector, where: slice, sketches: sketching.Sketches | None
) -> NDArray[np.float64]:
    each = sketches.take if sketches and part == LEARNT else None
    return measuring.products([one.values[where] for one in seen], origin[where], each=each)


def _norm(values: Vector) -> float:
    return measuring.norms(measuring.products([values], np.zeros_like(values)))[0]


def clipped(one: Contribution, origin: Vector, parts: Mapping[str, slice], scales: Mapping[str, float]) -> Contribution:
    """Return a contribution whose update is scaled where it has to be: the very one where nothing has to."""
    if all(scale == 1 for scale in scales.values()):
        return one
    values = one.values.copy()
    for part, where in parts.items():
        if scales[part] < 1:
            start = origin[where].astype(np.float64)
            values[where] = start + scales[part] * (one.values[where] - start)
    return replace(one, values=values)
