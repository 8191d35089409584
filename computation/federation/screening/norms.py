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
from collections.abc import Mapping, Sequence

from computation.federation.screening import medians
from computation.federation.screening.state import Bounds, Finding, Past

__all__ = ["judge", "remembered"]

#: Rounds of a site's past whose multiples count, and the place among them, by size, that makes a habit.
_WINDOW, _HABIT = 16, 3
#: Updates that say how large a site's are of late, and how many of them are a past.
_RECENT, _KNOWN = 3, 3
#: A multiple that is larger, or is no number, is written down as this.
_LARGEST = 1e9
#: Of a site of which nothing is known.
_NOTHING = Past()


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
    now = sorted(norm for norm in norms.values() if norm > 0)
    late = sorted(norm for past in pasts.values() for norm in past.norms)
    others = len({*norms, *pasts}) - 1
    found = {}
    for site, norm in norms.items():
        own = pasts.get(site, _NOTHING)
        measure = _of_others(now, late, norm, own)
        if others < 2:
            measure = max(measure, medians.mean(sorted(own.norms)))
        found[site] = _finding(norm, max(measure, least) if others else 0.0, own, bounds, majority=others >= 2)
    return found


def _finding(norm: float, measure: float, own: Past, bounds: Bounds, *, majority: bool) -> Finding:
    if not measure > 0:
        return Finding()
    multiple = norm / measure
    multiple = multiple if multiple <= _LARGEST else _LARGEST
    known = len(own.norms) >= _KNOWN
    if (majority or known) and _above(multiple, bounds.refuse):
        return Finding(multiple, 0.0)
    if majority and _above(multiple, bounds.suspect / 2) and _above(_habit(multiple, own, known), bounds.suspect):
        return Finding(multiple, 0.0)
    if _above(multiple, bounds.clip):
        return Finding(multiple, bounds.clip * measure / norm)
    return Finding(multiple)


def _habit(multiple: float, own: Past, known: bool) -> float:
    """Return the multiple that a site's updates have had often enough."""
    # Of a stranger once is enough: early updates differ little, and stay longest in an optimiser's moments.
    return sorted((*own.multiples, multiple), reverse=True)[: _HABIT if known else 1][-1]


def _above(multiple: float, bound: float) -> bool:
    return bound > 0 and multiple > bound


def _of_others(now: Sequence[float], late: Sequence[float], norm: float, own: Past) -> float:
    """Return the larger of two medians without a site's own: of all updates of this round, and of late, both sorted.

    Of an even number the higher of the two in the middle: with three sites it takes both others to call one small. An
    update of nothing is no measure. Norms fall and rise together, so whichever median is larger errs on the safe side.
    """
    others = medians.without(now, (norm,) if norm > 0 else ())
    return max(medians.high(others), medians.mean(medians.without(late, own.norms)))


def remembered(
    norms: Mapping[str, float], pasts: Mapping[str, Past], findings: Mapping[str, Finding]
) -> dict[str, Past]:
    """Return the pasts for the next round; what was left out is no measure of anything."""
    after = dict(pasts)
    for site, finding in findings.items():
        past, counted = pasts.get(site, _NOTHING), norms[site] * finding.scale
        multiples = (*past.multiples, finding.multiple)[1 - _WINDOW :]
        kept = (*past.norms, counted)[-_RECENT:] if finding.scale > 0 and 0 < counted < math.inf else past.norms
        after[site] = Past(multiples, kept)
    return after
