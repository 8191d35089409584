"""Updates that point against the others' in round after round are left out.

An honest update is the common direction and much noise: of single sub-volumes, one cosine in ten is negative. So no
round is judged by itself. Each round adds to a site's account how far its update pointed against the others', less an
allowance, and takes off how far it pointed along with them; the account is never negative (the cumulative sum of Page
1954, "Continuous inspection schemes", Biometrika 41). Above the bound the site's updates are left out, until the
account is below it again.

How far is the median of the cosines to each other site's update, of an even number the higher of the two in the
middle, so that a minority turns nobody's. Near the end of a training the sites' differences are all that is left of
their updates, and each points against the others': what the median site has of that is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from computation.federation.screening import medians

__all__ = ["along", "judge"]

#: What a round may point against the others' and add nothing. With half of it, a site of another scanner than all the
#: others' would pass the usual bound in one of seven runs of 3,000 late rounds; with this, in none of 300.
_ALLOWED = 0.1
#: An account holds at most so many times the bound, so that a site that turns round is heard again.
_MOST = 2.0
#: Of fewer there is no majority.
_FEWEST = 3


def judge(
    sites: Sequence[str],
    out: Container[str],
    between: Sequence[Sequence[float]],
    past: Mapping[str, float],
    bound: float,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return each site's account after the round, and whose updates are left out because of it.

    The one with the fullest account goes first, and the rest are judged again without it; a minority at most goes.

    Parameters
    ----------
    sites : sequence of str
        Whose updates there are.
    out : container of str
        Sites that are left out for another reason: they judge nobody, and their accounts stay.
    between : sequence of sequence of float
        Cosines between all updates, in the order of the sites.
    past : mapping of float
        Accounts before the round.
    bound : float
        The owner's; 0 is none.
    """
    cohort = [place for place, site in enumerate(sites) if site not in out]
    most, gone, accounts = (len(cohort) - 1) // 2, list[str](), dict(past)
    while len(cohort) >= _FEWEST:
        shown = {place: _to_others(between[place], cohort, place) for place in cohort}
        usual = sorted(shown.values())
        accounts |= {
            sites[place]: _account(own, usual, past.get(sites[place], 0.0), bound) for place, own in shown.items()
        }
        worst = max(cohort, key=lambda place: accounts[sites[place]])
        if not 0 < bound < accounts[sites[worst]] or len(gone) == most:
            break
        gone.append(sites[worst])
        cohort.remove(worst)
    return accounts, tuple(gone)


def along(sites: Sequence[str], out: Container[str], between: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the median of each site's cosines to the updates of the others that count; 0 where there is none."""
    cohort = [place for place, site in enumerate(sites) if site not in out]
    return {site: _to_others(between[place], cohort, place) for place, site in enumerate(sites)}


def _to_others(cosines: Sequence[float], cohort: Sequence[int], own: int) -> float:
    return medians.high(sorted([cosines[place] for place in cohort if place != own]))


def _account(own: float, everybody: Sequence[float], before: float, bound: float) -> float:
    """Return an account after a round in which a site's update pointed so far along with the others', as all did."""
    usual = min(0.0, medians.mean(medians.without(everybody, (own,))))
    after = before + usual - own - _ALLOWED
    return min(max(after, 0.0), _MOST * bound)
