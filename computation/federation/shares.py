"""What one site's contribution weighs, and the cap that its share in a mean has, however many scans it says it has."""

from __future__ import annotations

import math
from collections.abc import Mapping

from computation.settings import Settings
from computation.wire.messages import JoinOffer

__all__ = ["capped", "lowered", "weight"]

#: Shares that differ by the last bits of a sum are equal.
_SLACK = 1e-9


def weight(settings: Settings, joined: JoinOffer, samples: int) -> float:
    """Return a site's share before normalisation.

    Parameters
    ----------
    settings : Settings
        The owner's, which say what it is that weighs.
    joined : JoinOffer
        What the site said at join: its scans count as they were then, and not as it claims now.
    samples : int
        Sub-volumes behind its contribution.
    """
    if settings.one_voice:
        return 1.0
    if settings.weighting == "scans":
        return float(joined.scans["train"])
    return float(samples) if settings.weighting == "samples" else 1.0


def capped(weights: Mapping[str, float], most: float) -> dict[str, float]:
    """Return weights of which none is more than a share of their sum.

    What is taken from a site goes to the others, in proportion to their weights. With so few sites that their equal
    shares are larger than the cap, the equal share is the cap: two sites have at least half each.

    Parameters
    ----------
    weights : mapping of str to float
        Positive, one for each site.
    most : float
        Largest share, above 0 and at most 1.

    Returns
    -------
    dict of str to float
        The very weights that were given where none is above the cap; else shares that sum to 1.

    Examples
    --------
    >>> capped({"a": 96, "b": 3, "c": 1}, 0.8)
    {'a': 0.8, 'b': 0.15, 'c': 0.05}
    >>> capped({"a": 3, "b": 1}, 0.9)
    {'a': 3, 'b': 1}
    """
    limit = max(most, 1 / len(weights)) if weights else 1.0
    held: set[str] = set()
    while True:
        free = {site: weight for site, weight in weights.items() if site not in held}
        room, total = 1 - limit * len(held), math.fsum(free.values())
        over = {site for site, weight in free.items() if weight * room > limit * total * (1 + _SLACK)}
        if not over:
            break
        held |= over
    if not held:
        return dict(weights)
    return {site: limit if site in held else weights[site] / total * room for site in weights}


def lowered(weights: Mapping[str, float], held: Mapping[str, float]) -> list[str]:
    """Return whose share is smaller than it was before it was capped."""
    if held == weights:
        return []
    total = math.fsum(weights.values())
    return [site for site in held if held[site] < weights[site] / total]
