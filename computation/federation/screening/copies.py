"""Values that were there before, and updates of nothing.

A site that learns never offers the same values twice, since the model has moved, nor those of another site, whose scans
and draws are others. What is compared are digests, so a copy that is changed in its last digit is not found. Where one
round brings the same values from several sites, the bytes do not say whose they are: the first site by name counts,
all are named, and nobody is excluded for it. What everybody does in a round is no finding: no site stands out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from computation.federation.screening.state import Mark
from computation.strategies.base import Contribution

__all__ = ["found", "marked", "remembered", "twins"]

#: Rounds of the past whose values are known again.
_WINDOW = 16
#: Hexadecimal digits of a digest: enough against chance, and nobody gains by looking for more.
_DIGITS = 16


def marked(contributions: Sequence[Contribution], where: slice) -> dict[str, Mark]:
    """Return the mark of each contribution, by site."""
    return {one.site: (one.model[:_DIGITS], _digest(one, where)) for one in contributions}


def _digest(one: Contribution, where: slice) -> str:
    # The sum makes one zero of two.
    return hashlib.sha256((one.values[where] + one.values.dtype.type(0)).data).hexdigest()[:_DIGITS]


def found(
    marks: Mapping[str, Mark], norms: Mapping[str, float], past: Mapping[str, tuple[Mark, ...]]
) -> dict[str, str]:
    """Return why the values of sites are no news: `empty`, `stale` from an earlier round, or `twin` of another's.

    Parameters
    ----------
    marks : mapping of Mark
        Of this round, by site.
    norms : mapping of float
        Of this round's updates.
    past : mapping of tuple of Mark
        As `remembered` returned it.
    """
    empty = {site for site in marks if not norms[site] > 0}
    known = _known(past)
    # On the same model, as after a void round, a site without chance in it offers the same again.
    stale = {site for site, (model, values) in marks.items() if known.get(values, {model}) != {model}}
    alike = twins(marks)
    if {*empty, *stale, *alike, *alike.values()} == set(marks):
        return {}
    told = dict.fromkeys(alike, "twin") | dict.fromkeys(stale, "stale")
    # Of two sites neither is the odd one.
    return told | (dict.fromkeys(empty, "empty") if len(marks) - len(empty) >= 2 else {})


def _known(past: Mapping[str, tuple[Mark, ...]]) -> dict[str, set[str]]:
    """Return the models on which values were offered, by the values."""
    known: dict[str, set[str]] = {}
    for table in past.values():
        for model, values in table:
            known.setdefault(values, set()).add(model)
    return known


def twins(marks: Mapping[str, Mark]) -> dict[str, str]:
    """Return the sites whose values are also those of a site before them by name, and which that is."""
    first: dict[Mark, str] = {}
    for site in sorted(marks):
        first.setdefault(marks[site], site)
    return {site: first[mark] for site, mark in marks.items() if first[mark] != site}


def remembered(marks: Mapping[str, Mark], past: Mapping[str, tuple[Mark, ...]]) -> dict[str, tuple[Mark, ...]]:
    """Return the marks of late for the next round."""
    return {**past, **{site: (*past.get(site, ()), mark)[-_WINDOW:] for site, mark in marks.items()}}
