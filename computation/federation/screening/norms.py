"""Updates that are far larger than the others' are clipped or left out.

What is measured of an update is its Euclidean norm, in float64, as a multiple of the cohort's: the larger of the median
of the other sites' updates in this round, and of theirs of late. A minority cannot move either, and a site never
measures itself. The multiples of its own past tell one large update, which sub-volumes that are hard to learn explain,
from a site whose updates are large again and again. Clipping bounds what one update can do to an optimiser that
remembers (Sun et al. 2019, arXiv 1911.07963).

With two sites there is no majority: then a site is held against the larger of the other's update and its own past, and
without a past it is clipped, never refused, since nobody can say whose update is the odd one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median, median_high

from computation.federation.screening.state import Bounds, Finding, Past

__all__ = ["judge", "remembered"]

#: Rounds of a site's past whose multiples count, and the place among them, by size, that makes a habit.
_WINDOW, _HABIT = 16, 3
#: Updates that say how large a site's are of late, and how many of them are a past.
_RECENT, _KNOWN = 3, 3
#: A multiple that is larger, or is no number, is written down as this.
_LARGEST = 1e9


def judge(
    norms: Mapping[str, float], pasts: Mapping[str, Past], bounds: Bounds, least: float = 0.0
) -> dict[str, Finding]:
    """Return what is made of each update of one round, from norms and pasts alone.

    Parameters
    ----------
    norms : mapping of float
        Of this round's updates, by site.
    pasts : mapping of Past
        Of every site that ever contributed and is not excluded.
    bounds : Bounds
        The owner's.
    least : float
        No update is measured by less.
    """
    return {site: _finding(site, norms, pasts, bounds, least) for site in norms}


def _finding(site: str, norms: Mapping[str, float], pasts: Mapping[str, Past], bounds: Bounds, least: float) -> Finding:
    others = [other for other in {*norms, *pasts} if other != site]
    own = pasts.get(site, Past())
    majority = len(others) >= 2
    measure = _of_others(others, norms, pasts)
    if not majority:
        measure = max(measure, _median(own.norms))
    measure = max(measure, least) if others else 0.0
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


def remembered(
    norms: Mapping[str, float], pasts: Mapping[str, Past], findings: Mapping[str, Finding]
) -> dict[str, Past]:
    """Return the pasts for the next round; what was left out is no measure of anything."""
    after = dict(pasts)
    for site, finding in findings.items():
        past, counted = pasts.get(site, Past()), norms[site] * finding.scale
        multiples = (*past.multiples, finding.multiple)[1 - _WINDOW :]
        kept = (*past.norms, counted)[-_RECENT:] if finding.scale > 0 and 0 < counted < math.inf else past.norms
        after[site] = Past(multiples, kept)
    return after
