"""Finite poison: an update that is far larger than the others' is clipped or left out before anything is averaged.

Every engine screens in this one place, after reading and before `combine`. What is measured of an update is its
Euclidean norm, in float64, as a multiple of the cohort's: the larger of the median of the other sites' updates in this
round, and of theirs of late. A minority cannot move either, and a site never measures itself. The multiples of its own
past tell one large update, which sub-volumes that are hard to learn explain, from a site whose updates are large again
and again. Clipping bounds what one update can do to an optimiser that remembers (Sun et al. 2019, arXiv 1911.07963).

What this does not see: updates of ordinary size in a wrong direction. With two sites there is no majority: then a site
is held against the larger of the other's update and its own past, and without a past it is clipped, never refused,
since nobody can say whose update is the odd one.

Nothing here has a memory: `screen` takes the `State` and returns the next one, which is plain JSON in a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, median_high
from typing import Any

import numpy as np

from computation.settings import Settings
from computation.strategies.base import Contribution
from computation.tracking import Tracker
from computation.wire.messages import FINDINGS, LARGE, REASONS, Verdict
from computation.wire.payload import Vector

__all__ = ["Bounds", "Finding", "Past", "Screened", "State", "distance", "judge", "report", "screen", "tell"]

#: Rounds of a site's past whose multiples count, and the place among them, by size, that makes a habit.
_WINDOW, _HABIT = 16, 3
#: Updates that say how large a site's are of late, and how many of them are a past.
_RECENT, _KNOWN = 3, 3
#: A multiple that is larger, or is no number, is written down as this.
_LARGEST = 1e9
#: Values taken at a time; see `strategies.average`.
_BLOCK = 32_768


@dataclass(frozen=True)
class Bounds:
    """What the owner allows, as multiples of the cohort's norm; 0 is no bound.

    Attributes
    ----------
    clip : float
        An update above it is scaled down to it.
    refuse : float
        An update above it is left out.
    suspect : float
        A site with three updates above it in 16 rounds has each one left out that is above half of it. Where fewer
        than three updates of a site have counted, nothing speaks for it yet, and one is enough.
    rounds : int
        Rounds in a row in which a site is refused before it is out for the rest of the run.
    """

    clip: float
    refuse: float
    suspect: float
    rounds: int

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Return the bounds that the settings name."""
        return cls(settings.clip_above, settings.refuse_above, settings.suspect_above, settings.exclude_after)


@dataclass(frozen=True)
class Past:
    """What is remembered of a site's updates, the latest last.

    Attributes
    ----------
    multiples : tuple of float
        Of the cohort's norm, whatever became of them.
    norms : tuple of float
        Of those that counted.
    """

    multiples: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What is made of one update.

    Attributes
    ----------
    multiple : float
        Its norm, as a multiple of the cohort's; 0 where there is nothing to compare it with.
    scale : float
        What it is multiplied by: 1 counts as it is, less is clipped, 0 is left out.
    """

    multiple: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class State:
    """What the next round needs.

    Attributes
    ----------
    pasts : mapping of mapping of Past
        By part of the vector, then by site.
    refused : mapping of int
        Rounds in a row in which a site was refused, up to now.
    excluded : tuple of str
        Sites that are out for the rest of the run, sorted.
    """

    pasts: Mapping[str, Mapping[str, Past]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the state as plain JSON."""
        pasts = {
            part: {site: {"multiples": list(past.multiples), "norms": list(past.norms)} for site, past in table.items()}
            for part, table in self.pasts.items()
        }
        return {"pasts": pasts, "refused": dict(self.refused), "excluded": list(self.excluded)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> State:
        """Read back what `as_json` returned."""
        pasts = {
            part: {site: Past(tuple(past["multiples"]), tuple(past["norms"])) for site, past in table.items()}
            for part, table in raw["pasts"].items()
        }
        return cls(pasts, dict(raw["refused"]), tuple(raw["excluded"]))


@dataclass(frozen=True)
class Screened:
    """A round's contributions after screening.

    Attributes
    ----------
    kept : tuple of Contribution
        Those to combine, clipped where they had to be.
    refused : mapping of str
        Why each of the others is not among them: `outlier` or `excluded`.
    findings : mapping of Finding
        Of each site that was looked at, the worst over the parts of its vector.
    state : State
        For the next round.
    """

    kept: tuple[Contribution, ...]
    refused: Mapping[str, str]
    findings: Mapping[str, Finding]
    state: State


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
        have sizes of their own.
    state : State
        From the round before.
    bounds : Bounds
        The owner's.
    """
    seen = sorted((one for one in contributions if one.site not in state.excluded), key=lambda one: one.site)
    judged: dict[str, dict[str, Finding]] = {}
    pasts = dict(state.pasts)
    for part, where in parts.items():
        norms = {one.site: distance(one.values[where], origin[where]) for one in seen}
        known = {site: past for site, past in state.pasts.get(part, {}).items() if site not in state.excluded}
        judged[part] = judge(norms, known, bounds)
        pasts[part] = _remembered(norms, known, judged[part])
    out = sorted({site for table in judged.values() for site, finding in table.items() if finding.scale == 0})
    kept = tuple(_clipped(one, origin, parts, judged) for one in seen if one.site not in out)
    worst = {one.site: _worst([table[one.site] for table in judged.values()]) for one in seen}
    after = _counted(replace(state, pasts=pasts), out, [one.site for one in seen], bounds)
    refused = {site: "excluded" if site in after.excluded else "outlier" for site in out}
    refused |= {one.site: "excluded" for one in contributions if one.site in state.excluded}
    return Screened(kept, refused, worst, after)


def distance(values: Vector, origin: Vector) -> float:
    """Return the Euclidean norm of `values - origin`, in float64 and in blocks, so that no second model is held."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, values.size, _BLOCK):
            stop = start + _BLOCK
            away = np.subtract(values[start:stop], origin[start:stop], dtype=np.float64)
            # Not `dot`: BLAS would share the block out to threads, for longer than it takes, and add in their order.
            total += float(np.multiply(away, away, out=away).sum())
    return math.sqrt(total) if math.isfinite(total) else math.inf


def judge(norms: Mapping[str, float], pasts: Mapping[str, Past], bounds: Bounds) -> dict[str, Finding]:
    """Return what is made of each update of one round, from norms and pasts alone.

    Parameters
    ----------
    norms : mapping of float
        Of this round's updates, by site.
    pasts : mapping of Past
        Of every site that ever contributed and is not excluded.
    bounds : Bounds
        The owner's.
    """
    return {site: _finding(site, norms, pasts, bounds) for site in norms}


def _finding(site: str, norms: Mapping[str, float], pasts: Mapping[str, Past], bounds: Bounds) -> Finding:
    others = [other for other in {*norms, *pasts} if other != site]
    own = pasts.get(site, Past())
    majority = len(others) >= 2
    measure = _of_others(others, norms, pasts)
    if not majority:
        measure = max(measure, _median(own.norms)) if others else 0.0
    if not measure > 0:
        return Finding()
    multiple = norms[site] / measure
    multiple = multiple if multiple <= _LARGEST else _LARGEST
    known = len(own.norms) >= _KNOWN
    if (majority or known) and _above(multiple, bounds.refuse):
        return Finding(multiple, 0.0)
    # Of a stranger once is enough: early updates differ little, and stay longest in an optimiser's moments.
    habit = sorted((*own.multiples, multiple), reverse=True)[: _HABIT if known else 1][-1]
    if majority and _above(habit, bounds.suspect) and _above(multiple, bounds.suspect / 2):
        return Finding(multiple, 0.0)
    if _above(multiple, bounds.clip):
        return Finding(multiple, bounds.clip * measure / norms[site])
    return Finding(multiple)


def _above(multiple: float, bound: float) -> bool:
    return bound > 0 and multiple > bound


def _of_others(others: Iterable[str], norms: Mapping[str, float], pasts: Mapping[str, Past]) -> float:
    """Return the larger of two medians: of the others' updates of this round, and of late.

    Of an even number the higher of the two in the middle: with three sites it takes both others to call one small. An
    update of nothing is no measure. Norms fall and rise together, so whichever median is larger errs on the safe side.
    """
    now = [norms[other] for other in others if norms.get(other, 0.0) > 0]
    late = [norm for other in others if other in pasts for norm in pasts[other].norms]
    return max(median_high(now) if now else 0.0, _median(late))


def _median(values: Sequence[float]) -> float:
    return median(values) if values else 0.0


def _remembered(
    norms: Mapping[str, float], pasts: Mapping[str, Past], findings: Mapping[str, Finding]
) -> dict[str, Past]:
    after = dict(pasts)
    for site, finding in findings.items():
        past, counted = pasts.get(site, Past()), norms[site] * finding.scale
        multiples = (*past.multiples, finding.multiple)[1 - _WINDOW :]
        kept = (*past.norms, counted)[-_RECENT:] if finding.scale > 0 and 0 < counted < math.inf else past.norms
        after[site] = Past(multiples, kept)
    return after


def _clipped(
    one: Contribution, origin: Vector, parts: Mapping[str, slice], judged: Mapping[str, Mapping[str, Finding]]
) -> Contribution:
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


def _counted(state: State, out: Sequence[str], seen: Sequence[str], bounds: Bounds) -> State:
    """Count refusals in a row, and exclude where they are too many; who sent nothing keeps its count."""
    refused = {**state.refused, **{site: state.refused.get(site, 0) + 1 if site in out else 0 for site in seen}}
    gone = [site for site, times in refused.items() if bounds.rounds and times >= bounds.rounds]
    return replace(state, refused=refused, excluded=tuple(sorted({*state.excluded, *gone})))


def report(tracker: Tracker, round: int, before: State, done: Screened) -> None:
    """Write down at the centre all that was clipped, left out or excluded in a round, and what it was judged by."""
    for site, finding in done.findings.items():
        if finding.scale < 1:
            tracker.event("screened", round=round, site=site, **asdict(finding))
        if 0 < finding.scale < 1:
            tracker.notice("clipped", f"an update of {site} was scaled down: {LARGE}", round=round)
    for site in sorted({*done.state.excluded} - {*before.excluded}):
        text = f"from round {round} on {site} is out of the run: {REASONS['excluded']}"
        tracker.notice("excluded", text, round=round, site=site)


def tell(tracker: Tracker, site: str, verdict: Verdict) -> None:
    """Note at a site what the centre made of its update, where that did not count as it was."""
    reason = verdict.skipped.get(site, "")
    if reason in FINDINGS:
        tracker.notice("refused", f"the centre left this site out: {REASONS[reason]}", round=verdict.round)
    if site in verdict.clipped:
        tracker.notice("clipped", f"the centre scaled this site's update down: {LARGE}", round=verdict.round)
