"""How much of a round each site does: batches in proportion to its weight, so that the mean is as sharp as pooled.

A weighted mean of gradients has the variance `sum(w * w / k)` where a site has weight `w` and `k` batches behind it, in
units of one batch's. For a given number of batches that is least where `k` is in proportion to `w`, and then it is what
one machine with everybody's scans has. With a batch a site, weights of 1, 2, 4 and 9 make four of them as noisy as 2.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from computation.errors import MessageError
from computation.federation import shares
from computation.settings import Settings
from computation.wire.messages import Plan

__all__ = ["MOST", "batches", "own"]

#: A site works through at most so many times `local_steps` in a round: every other site waits for it.
MOST = 8


def batches(settings: Settings, scans: Mapping[str, int]) -> dict[str, int]:
    """Return the batches of each site in every round.

    All sites together do `local_steps` each on average, shared out by their weights and rounded to the nearest whole
    number: at least one, at most `MOST` times `local_steps`, and no more than one pass over the site's scans
    unless `local_steps` is more. Sites of equal size do `local_steps`.

    Federated averaging is left alone: its batches are steps, and a site that makes more of them moves farther, so that
    it would weigh twice (Wang et al. 2020, arXiv 2007.07481). So are weights that are not the scans', and rules
    by which each site has one voice.

    Parameters
    ----------
    settings : Settings
        The owner's.
    scans : mapping of str to int
        Training scans of each site that trains; positive.
    """
    steps = settings.local_steps
    by_scans = (settings.batches, settings.strategy, settings.weighting) == ("by-scans", "gradient-mean", "scans")
    by_scans = by_scans and not settings.one_voice
    if not by_scans:
        return dict.fromkeys(sorted(scans), steps)
    weights = shares.capped(scans, settings.most_share)
    unit = steps * len(scans) / math.fsum(weights.values())
    return {site: _portion(settings, scans[site], unit * weights[site]) for site in sorted(scans)}


def _portion(settings: Settings, scans: int, due: float) -> int:
    steps = settings.local_steps
    one_pass = math.ceil(scans / settings.scans_a_batch)
    return max(1, min(math.floor(due + 0.5), MOST * steps, max(steps, one_pass)))


def own(plan: Plan, site: str, settings: Settings) -> int | None:
    """Return one site's batches in a round as the centre's plan has them; none where it only evaluates.

    Raises
    ------
    MessageError
        If they are missing, or more than the settings allow.
    """
    if site in plan.evaluators:
        return None
    batches, most = plan.batches.get(site, 0), MOST * settings.local_steps
    if not 1 <= batches <= most:
        raise MessageError(f"the plan gives this site {batches} batches in a round; wanted 1 to {most}")
    return batches
