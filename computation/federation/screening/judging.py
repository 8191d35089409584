"""What each finding makes of updates, and what the next round remembers: from sizes, angles and digests alone."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening import copies, direction, drift, measuring, norms
from computation.federation.screening.paths import Paths
from computation.federation.screening.state import Bounds, Finding, Mark, Past, State

__all__ = ["LEARNT", "Judgement", "Measured", "judge"]

#: The part of a vector that learning moves: batch-norm statistics point nowhere, and two sites' may be alike.
LEARNT = "parameters"

#: What is found of each site, by part of the vector.
Judged = Mapping[str, Mapping[str, Finding]]


@dataclass(frozen=True)
class Measured:
    """What updates are judged by.

    Attributes
    ----------
    sites : tuple of str
        Whose they are, sorted; nobody's that is excluded.
    tables : mapping of numpy.ndarray
        Inner products of all updates, by part of the vector, in the order of the sites.
    marks : mapping of Mark
        Of each site; none where copies count.
    least : mapping of float
        By part: no update is measured by less.
    sketches : numpy.ndarray, optional
        Of all updates, by the seed of the state's paths; without them no drift is judged.
    """

    sites: tuple[str, ...]
    tables: Mapping[str, NDArray[Any]]
    marks: Mapping[str, Mark]
    least: Mapping[str, float] = field(default_factory=dict)
    sketches: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Judgement:
    """What is made of updates.

    Attributes
    ----------
    judged : mapping of mapping of Finding
        By part of the vector, then by site; the scale is 0 for whatever is left out.
    out : mapping of str
        Why updates are left out, by site: a word of `FINDINGS`.
    state : State
        For the next round.
    twins : mapping of str
        The site that counts for each twin.
    """

    judged: Judged
    out: Mapping[str, str]
    state: State
    twins: Mapping[str, str]

    def worst(self, site: str) -> Finding:
        """Return what was found of a site, the worst over the parts of its vector."""
        findings = [table[site] for table in self.judged.values()]
        return min(findings, key=lambda finding: (finding.scale, -finding.multiple))

    def scales(self, site: str) -> dict[str, float]:
        """Return what each part of a site's update is multiplied by."""
        return {part: table[site].scale for part, table in self.judged.items()}


def judge(seen: Measured, state: State, bounds: Bounds) -> Judgement:
    """Judge updates.

    Parameters
    ----------
    seen : Measured
        What is known of them.
    state : State
        From the round before.
    bounds : Bounds
        The owner's.
    """
    sizes = {part: _sizes(seen.sites, table) for part, table in seen.tables.items()}
    between = measuring.cosines(seen.tables[LEARNT])
    known = {part: _members(state.pasts.get(part, {}), state.excluded) for part in seen.tables}
    judged: Judged = {
        part: norms.judge(sizes[part], known[part], bounds, seen.least.get(part, 0.0)) for part in seen.tables
    }
    alike = copies.twins(seen.sites, between) if bounds.copies else {}
    told = copies.found(seen.marks, sizes[LEARNT], state.marks, alike)
    barren, copied = copies.counted(told, seen.sites, state.barren)
    out = _outliers(judged) | copied
    accounts, opposed = direction.judge(seen.sites, out, between, state.opposed, bounds.opposed)
    out |= dict.fromkeys(opposed, "opposed")
    paths, drifts, drifted = _drifted(seen, out, state.paths, bounds)
    out |= dict.fromkeys(drifted, "drifted")
    judged = _told(judged, direction.along(seen.sites, out, between), drifts, out)
    pasts = {part: norms.remembered(sizes[part], known[part], judged[part]) for part in judged}
    refused, excluded = _counted(state, out, seen.sites, bounds)
    marks = copies.remembered(seen.marks, state.marks)
    after = State({**state.pasts, **pasts}, refused, excluded, accounts, marks, barren, paths)
    return Judgement(judged, out, after, alike)


def _sizes(sites: Sequence[str], table: NDArray[Any]) -> dict[str, float]:
    return dict(zip(sites, measuring.norms(table), strict=True))


def _members(pasts: Mapping[str, Past], excluded: Container[str]) -> dict[str, Past]:
    return {site: past for site, past in pasts.items() if site not in excluded}


def _outliers(judged: Judged) -> dict[str, str]:
    return {site: "outlier" for table in judged.values() for site, finding in table.items() if finding.scale == 0}


def _drifted(
    seen: Measured, out: Mapping[str, str], paths: Paths, bounds: Bounds
) -> tuple[Paths, dict[str, float], tuple[str, ...]]:
    if seen.sketches is None:
        return paths, {}, ()
    return drift.judge(seen.sites, out, seen.tables[LEARNT], seen.sketches, paths, bounds.drifted or 0.0)


def _told(judged: Judged, cosines: Mapping[str, float], drifts: Mapping[str, float], out: Mapping[str, str]) -> Judged:
    """Return the findings with their cosines and drifts, and with a scale of 0 for whatever was left out."""

    def told(site: str, finding: Finding) -> Finding:
        scale = 0.0 if site in out else finding.scale
        return Finding(finding.multiple, scale, cosines[site], drifts.get(site, 0.0))

    return {part: {site: told(site, finding) for site, finding in table.items()} for part, table in judged.items()}


def _counted(
    state: State, out: Mapping[str, str], seen: Sequence[str], bounds: Bounds
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return refusals in a row, and who is out for too many; who sent nothing, or is a twin, keeps its count."""
    judged = [site for site in seen if out.get(site) != "twin"]
    refused = {**state.refused, **{site: state.refused.get(site, 0) + 1 if site in out else 0 for site in judged}}
    gone = [site for site, times in refused.items() if bounds.rounds and times >= bounds.rounds]
    return refused, tuple(sorted({*state.excluded, *gone}))
