"""One round's contributions: what each finding makes of them, and what the next round remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening import copies, direction, measuring, norms
from computation.federation.screening.state import Bounds, Finding, Past, State
from computation.strategies.base import Contribution
from computation.wire.payload import Vector

__all__ = ["Screened", "screen"]

#: The part of a vector that learning moves: batch-norm statistics point nowhere, and two sites' may be alike.
_LEARNT = "parameters"

#: What is found of each site, by part of the vector.
Judged = Mapping[str, Mapping[str, Finding]]


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
    contributions: Sequence[Contribution], origin: Vector, parts: Mapping[str, slice], state: State, bounds: Bounds
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
    """
    seen = sorted((one for one in contributions if one.site not in state.excluded), key=lambda one: one.site)
    sites = [one.site for one in seen]
    sizes, between = _measured(seen, origin, parts)
    known = {part: _members(state.pasts.get(part, {}), state) for part in parts}
    judged: Judged = {part: norms.judge(sizes[part], known[part], bounds) for part in parts}
    marks, alike = (copies.marked(seen, parts[_LEARNT]), copies.twins(sites, between)) if bounds.copies else ({}, {})
    told = copies.found(marks, sizes[_LEARNT], state.marks, alike)
    barren, copied = copies.counted(told, sites, state.barren)
    out = _outliers(judged) | copied
    accounts, opposed = direction.judge(sites, out, between, state.opposed, bounds.opposed)
    out |= dict.fromkeys(opposed, "opposed")
    judged = _told(judged, direction.along(sites, out, between), out)
    pasts = {part: norms.remembered(sizes[part], known[part], judged[part]) for part in parts}
    after = replace(
        state,
        pasts={**state.pasts, **pasts},
        opposed=accounts,
        marks=copies.remembered(marks, state.marks),
        barren=barren,
    )
    after = _counted(after, out, sites, bounds)
    return Screened(
        tuple(_clipped(one, origin, parts, judged) for one in seen if one.site not in out),
        {
            one.site: "excluded" if one.site in after.excluded else out[one.site]
            for one in contributions
            if one.site in {*out, *after.excluded}
        },
        {site: _worst([table[site] for table in judged.values()]) for site in sites},
        after,
        alike,
    )


def _measured(
    seen: Sequence[Contribution], origin: Vector, parts: Mapping[str, slice]
) -> tuple[dict[str, dict[str, float]], NDArray[np.float64]]:
    """Return the size of each update by part and site, and the cosines between what the sites learnt."""
    tables = {
        part: measuring.products([one.values[where] for one in seen], origin[where]) for part, where in parts.items()
    }
    sizes = {
        part: {one.site: norm for one, norm in zip(seen, measuring.norms(table), strict=True)}
        for part, table in tables.items()
    }
    return sizes, measuring.cosines(tables[_LEARNT])


def _members(pasts: Mapping[str, Past], state: State) -> dict[str, Past]:
    return {site: past for site, past in pasts.items() if site not in state.excluded}


def _outliers(judged: Judged) -> dict[str, str]:
    return {site: "outlier" for table in judged.values() for site, finding in table.items() if finding.scale == 0}


def _told(judged: Judged, cosines: Mapping[str, float], out: Mapping[str, str]) -> Judged:
    """Return the findings with their cosines, and with a scale of 0 for whatever was left out."""
    return {
        part: {
            site: replace(finding, cosine=cosines[site], scale=0.0 if site in out else finding.scale)
            for site, finding in table.items()
        }
        for part, table in judged.items()
    }


def _clipped(one: Contribution, origin: Vector, parts: Mapping[str, slice], judged: Judged) -> Contribution:
    """Return a contribution whose update is scaled where it has to be: the very one where nothing has to."""
    scales = {part: judged[part][one.site].scale for part in parts}
    if all(scale == 1 for scale in scales.values()):
        return one
    values = one.values.copy()
    for part, where in parts.items():
        if scales[part] < 1:
            start = origin[where].astype(np.float64)
            values[where] = start + scales[part] * (one.values[where] - start)
    return replace(one, values=values)


def _worst(findings: Sequence[Finding]) -> Finding:
    return min(findings, key=lambda finding: (finding.scale, -finding.multiple))


def _counted(state: State, out: Mapping[str, str], seen: Sequence[str], bounds: Bounds) -> State:
    """Count refusals in a row, and exclude where they are too many; who sent nothing, or is a twin, keeps its count."""
    judged = [site for site in seen if out.get(site) != "twin"]
    refused = {**state.refused, **{site: state.refused.get(site, 0) + 1 if site in out else 0 for site in judged}}
    gone = [site for site, times in refused.items() if bounds.rounds and times >= bounds.rounds]
    return replace(state, refused=refused, excluded=tuple(sorted({*state.excluded, *gone})))
