"""Values that were there before, and updates of nothing.

A site that learns never offers the same values twice, since the model has moved, nor those of another site, whose scans
and draws are others. Those of earlier rounds are known again by digests, so a copy that is changed in its last digit is
not. In one round updates of one direction are copies, whatever their size; whose they are, they do not say: the first
site by name counts, both are named, and nobody is excluded for it. What everybody does in a round is no finding, since
no site stands out. Two sub-volumes without a head in them are alike, and of one that a model knows by heart nothing is
left to learn: so twins and updates of nothing are left out from the eighth round in a row on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence

from computation.federation.screening.state import Mark
from computation.strategies.base import Contribution
from computation.wire.payload import Vector

__all__ = ["counted", "found", "marked", "remembered", "twins"]

#: Rounds of the past whose values are known again.
_WINDOW = 16
#: Hexadecimal digits of a digest: enough against chance, and nobody gains by looking for more.
_DIGITS = 16
#: What may be chance, and from which round in a row on it is none.
_CHANCE, _PATIENCE = ("twin", "empty"), 8
#: Two updates with a larger cosine differ by less than 1.5 % of their size; honest ones' was 0.99 at most.
_ALIKE = 0.9999
#: Values taken at a time.
_BLOCK = 32_768


def marked(contributions: Sequence[Contribution], where: slice) -> dict[str, Mark]:
    """Return the mark of each contribution, by site."""
    return {one.site: (one.model[:_DIGITS], _digest(one.values[where])) for one in contributions}


def _digest(values: Vector) -> str:
    sha = hashlib.sha256()
    for start in range(0, values.size, _BLOCK):
        # The sum makes one zero of two.
        sha.update((values[start : start + _BLOCK] + values.dtype.type(0)).data)
    return sha.hexdigest()[:_DIGITS]


def found(
    marks: Mapping[str, Mark],
    norms: Mapping[str, float],
    past: Mapping[str, tuple[Mark, ...]],
    alike: Mapping[str, str],
) -> dict[str, str]:
    """Return why the values of sites are no news: `stale` from an earlier round, `twin` of another's, or `empty`.

    Parameters
    ----------
    marks : mapping of Mark
        Of this round, by site.
    norms : mapping of float
        Of this round's updates.
    past : mapping of tuple of Mark
        As `remembered` returned it.
    alike : mapping of str
        As `twins` returned it.
    """
    empty = {site for site in marks if not norms[site] > 0}
    known = _known(past, {values for _, values in marks.values()})
    # On the same model, as after a void round, a site without chance in it offers the same again.
    stale = {site for site, (model, values) in marks.items() if known.get(values, {model}) != {model}} - empty
    if {*empty, *stale, *alike, *alike.values()} == set(marks):
        return {}
    told = dict.fromkeys(alike, "twin") | dict.fromkeys(stale, "stale")
    # Of two sites neither is the odd one.
    return told | (dict.fromkeys(empty, "empty") if len(marks) - len(empty) >= 2 else {})


def counted(
    told: Mapping[str, str], sites: Iterable[str], past: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, str]]:
    """Return for how many rounds in a row each site brought nothing of its own, and whose values are left out and why.

    Parameters
    ----------
    told : mapping of str
        As `found` returned it.
    sites : iterable of str
        That offered something in this round.
    past : mapping of int
        Rounds in a row up to this one.
    """
    barren = {**past, **{site: past.get(site, 0) + 1 if told.get(site) in _CHANCE else 0 for site in sites}}
    out = {site: why for site, why in told.items() if why not in _CHANCE or barren[site] >= _PATIENCE}
    return barren, out


def _known(past: Mapping[str, tuple[Mark, ...]], wanted: Container[str]) -> dict[str, set[str]]:
    """Return the models on which wanted values were offered, by the values."""
    known: dict[str, set[str]] = {}
    for table in past.values():
        for model, values in table:
            if values in wanted:
                known.setdefault(values, set()).add(model)
    return known


def twins(sites: Sequence[str], between: Sequence[Sequence[float]]) -> dict[str, str]:
    """Return the sites whose update is that of a site before them by name, but for its size, and which that is.

    Parameters
    ----------
    sites : sequence of str
        Sorted.
    between : sequence of sequence of float
        Cosines between all updates, in the order of the sites.
    """
    found: dict[str, str] = {}
    for place, site in enumerate(sites):
        first = next((one for one in range(place) if between[place][one] > _ALIKE), None)
        if first is not None:
            found[site] = found.get(sites[first], sites[first])
    return found


def remembered(marks: Mapping[str, Mark], past: Mapping[str, tuple[Mark, ...]]) -> dict[str, tuple[Mark, ...]]:
    """Return the marks of late for the next round."""
    return {**past, **{site: (*past.get(site, ()), mark)[-_WINDOW:] for site, mark in marks.items()}}
