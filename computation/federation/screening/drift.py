"""Updates that lie to one side of the others' in round after round are left out, however near they lie in each.

Honest updates of one round lie about a common middle, each where its scans and chance put it. A site that always lies
1.5 of the others' deviations to one side ("a little is enough", Baruch et al. 2019, arXiv 1902.06156) lies no farther
than they do, so no single round tells it from them. Added up it does: after n rounds chance is n^0.5 deviations away,
and such a site n. Whom history shows like that goes (Allen-Zhu, Ebrahimian, Li and Alistarh 2021, "Byzantine-resilient
non-convex stochastic gradient descent", arXiv 2012.14368; Karimireddy, He and Jaggi 2021, arXiv 2012.10333).

What a site adds in a round is how far its update is from that of the site in the middle, in units of the cohort's
usual distance of two, at most two of them, so that no round outweighs the others. Of two sites' sums the squared
distance is taken, less what chance would have made of it: that is how far the two are led apart in a round. A site's
drift is the median of its distances to the others, of an even number the lower, so that a minority makes nobody's.

Other scanners and people lead sites apart, too, the more of what is left the longer a training goes on: on two sides,
where two kinds of scanners are. So a drift must also be 1.5 times as long as the others without the site are apart: the
median of theirs, each the higher of the two in the middle. One site whose scanner is unlike all others' still drifts
alone, so nobody is left out for it unless the owner asks.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from computation.federation.screening import medians
from computation.federation.screening.paths import Paths, apart

__all__ = ["FEWEST", "judge"]

#: Of fewer sites, too few pairs say how far apart honest ones are.
FEWEST = 4
#: Rounds that are a history.
_LEAST = 8
#: Usual distances that an update is away from the middle at most.
_FARTHEST = 2.0
#: Times as far as the others are apart.
_TIMES = 1.5


def judge(
    sites: Sequence[str],
    out: Container[str],
    table: NDArray[np.float64],
    sketches: NDArray[np.float64],
    past: Paths,
    bound: float,
) -> tuple[Paths, dict[str, float], tuple[str, ...]]:
    """Return where the sites' updates have led after the round, each one's drift, and who is left out because of it.

    The one that drifts most goes first, and the rest are judged again without it; a minority at most goes.

    Parameters
    ----------
    sites : sequence of str
        Whose updates there are.
    out : container of str
        Sites that are left out for another reason: they judge nobody, and nobody judges them.
    table : numpy.ndarray
        Inner products of all updates, in the order of the sites.
    sketches : numpy.ndarray
        Of all updates, likewise.
    past : Paths
        Before the round.
    bound : float
        The owner's, in units of the cohort's usual distance; 0 leaves nobody out.
    """
    finite = [place for place in range(len(sites)) if np.isfinite(table[place, place])]
    cohort = [place for place in finite if sites[place] not in out]
    if len(cohort) < FEWEST:
        return past, {}, ()
    if len(finite) < len(sites):
        table, sketches = table[np.ix_(finite, finite)], sketches[finite]
    middle, held = _held(np.sqrt(apart(table)).tolist(), [finite.index(place) for place in cohort])
    if middle < 0:
        return past, {}, ()
    steps = (sketches - sketches[middle]) * held[:, None]
    away = table - table[middle] - table[:, middle, None] + table[middle, middle]
    after = past.followed([sites[place] for place in finite], steps, away * held * held[:, None])
    names = [sites[place] for place in cohort]
    between, everybody = after.distances(names), range(len(names))
    gone = _gone(between, bound) if bound and after.rounds >= _LEAST else []
    return after, {names[one]: _drift(between, one, everybody) for one in everybody}, tuple(names[one] for one in gone)


def _held(between: list[list[float]], cohort: Sequence[int]) -> tuple[int, NDArray[np.float64]]:
    """Return who is in the middle, and what each way from there is multiplied by; -1 where all are in one place."""
    usual = {place: _drift(between, place, cohort) for place in cohort}
    unit = medians.low(sorted(usual.values()))
    if not unit > 0:
        return -1, np.zeros(0)
    middle = min(cohort, key=lambda place: usual[place])
    return middle, np.minimum(1.0, _FARTHEST * unit / np.maximum(between[middle], unit)) / unit


def _gone(between: list[list[float]], bound: float) -> list[int]:
    cohort, gone = list(range(len(between))), list[int]()
    most = (len(cohort) - 1) // 2
    while len(cohort) >= FEWEST and len(gone) < most:
        drifts = {one: _drift(between, one, cohort) for one in cohort}
        worst = max(cohort, key=lambda one: drifts[one])
        if not drifts[worst] > bound:
            break
        others = [one for one in cohort if one != worst]
        usual = medians.mean(sorted(medians.high(_to_others(between, one, others)) for one in others))
        if not drifts[worst] > _TIMES * usual:
            break
        gone.append(worst)
        cohort = others
    return gone


def _drift(between: list[list[float]], own: int, cohort: Sequence[int]) -> float:
    return medians.low(_to_others(between, own, cohort))


def _to_others(between: list[list[float]], own: int, cohort: Sequence[int]) -> list[float]:
    row = between[own]
    return sorted([row[other] for other in cohort if other != own])
