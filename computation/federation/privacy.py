"""Differential privacy in a run: what it refuses, how many rounds it allows, what it cost, and what it keeps back.

Each site's sum has its own noise, and whoever sees it alone learns of a scan there what that site's epsilon allows. The
numbers that decide it are public: scans and batches of each site, and the owner's settings. So the centre limits the
rounds, and each site computes once more what they cost before it believes the plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from computation.errors import SettingsError
from computation.federation import agreement
from computation.federation.masking import circle
from computation.federation.screening import Bounds
from computation.model import vector
from computation.settings import Settings
from computation.training.learner import Learner
from computation.training.privacy import accountant
from computation.training.privacy.mechanism import rate
from computation.wire.messages import JoinOffer, Plan, RoundOffer

__all__ = ["check_model", "check_plan", "keep_back", "largest", "limit", "noise_share", "spent", "stopped", "widened"]

#: Two versions of the libraries may differ by so much, relatively, in what the same rounds cost.
_SLACK = 1e-6


def check_model(learner: Learner, settings: Settings) -> None:
    """Refuse a network whose batch-norm statistics would tell of scans without noise; raises `SettingsError`."""
    if settings.dp and settings.norm_policy != "frozen" and vector.statistics(learner.model).size:
        raise SettingsError(
            "the model has batch norm, whose statistics have no noise under 'dp'; set 'norm' to group or none, or "
            "'norm_policy' to frozen"
        )


def spent(settings: Settings, scans: int, batches: int, rounds: int, last: int) -> float | None:
    """Return a site's epsilon after so many rounds of a run of `last`: nothing without `dp`, 0 without scans.

    Rounds above 99 are rounded up to two digits, so that it is never too low; after the last it is exact.
    """
    if not settings.dp:
        return None
    counted = accountant.rounded(rounds, last)
    return accountant.epsilon(settings.dp_noise, rate(scans, batches), counted, settings.dp_delta) if scans else 0.0


def largest(settings: Settings, offers: Mapping[str, JoinOffer], plan: Plan, rounds: int) -> float | None:
    """Return the epsilon of the site whose scans are hidden least; nothing without `dp`."""
    costs = (
        spent(settings, offers[site].scans["train"], batches, rounds, plan.rounds)
        for site, batches in plan.batches.items()
    )
    return max((cost for cost in costs if cost is not None), default=None)


def limit(
    settings: Settings, offers: Mapping[str, JoinOffer], batches: Mapping[str, int], rounds: int
) -> tuple[int, tuple[str, ...]]:
    """Return the rounds of a run that no site's budget forbids, and what is to be told of it.

    Parameters
    ----------
    settings : Settings
        The owner's.
    offers : mapping of str to JoinOffer
        One for each site.
    batches : mapping of str to int
        Of each site that trains, in a round.
    rounds : int
        That the run would have otherwise.

    Raises
    ------
    SettingsError
        If a single round is too much for a site, or dp-accounting is not installed.
    """
    if not settings.dp:
        return rounds, ()
    allowed = {site: _allowed(settings, offers[site].scans["train"], batches[site], rounds) for site in sorted(batches)}
    least = min(allowed, key=lambda site: allowed[site])
    if not allowed[least]:
        raise SettingsError(
            f"one round with site {least} costs more than an epsilon of {settings.dp_epsilon:g}; raise 'dp_noise' or "
            "'dp_epsilon', or lower 'local_steps'"
        )
    told = [f"'dp_epsilon' {settings.dp_epsilon:g} allows {allowed[least]} of {rounds} rounds, because of {least}"]
    return allowed[least], tuple(text[:200] for text in told if allowed[least] < rounds)


def _allowed(settings: Settings, scans: int, batches: int, rounds: int) -> int:
    chance = rate(scans, batches)
    return accountant.most_rounds(settings.dp_noise, chance, settings.dp_epsilon, settings.dp_delta, rounds)


def check_plan(settings: Settings, scans: int, batches: int, rounds: int) -> None:
    """Refuse, at a site, a plan of more rounds than the budget allows.

    Raises
    ------
    SettingsError
        If there are too many, or dp-accounting is not installed.
    """
    cost = spent(settings, scans, batches, rounds, rounds)
    if cost is not None and cost > settings.dp_epsilon * (1 + _SLACK):
        raise SettingsError(
            f"the plan's {rounds} rounds of {batches} batches would cost this site an epsilon of {cost:.4g}; wanted at "
            f"most the {settings.dp_epsilon:g} of setting 'dp_epsilon'"
        )


def noise_share(settings: Settings, plan: Plan) -> float:
    """Return how much of the noise one site adds: all of it, or under secure aggregation its share of the sum's.

    Whoever asks sees sums of `least` sites or more, and may be one of them, whose own noise hides nothing from itself.
    So the others add up to the whole noise, in terms of the site whose scans weigh most; Dwork et al. 2006, "Our data,
    ourselves", EUROCRYPT 2006, section 1. Where weights are not the scans', how many each has is not known, and each
    site adds all of it.
    """
    if not plan.masking or settings.weighting != "scans":
        return 1.0
    terms = circle.Terms.of(plan, settings)
    # What one scan may move in the sum, at each site: its weight over the scans that are expected.
    moves = [weight / min(plan.batches[site], terms.weights[site]) for site, weight in terms.shares.items()]
    return min(1.0, max(moves) / (min(moves) * math.sqrt(terms.circle.least - 1)))


def widened(bounds: Bounds, settings: Settings, plan: Plan) -> Bounds:
    """Return bounds for updates of which most is noise: that of a site with fewer batches is so many times larger."""
    if not settings.dp:
        return bounds
    spread = max(plan.batches.values()) / min(plan.batches.values())
    return replace(bounds, clip=bounds.clip * spread, refuse=bounds.refuse * spread, suspect=bounds.suspect * spread)


def keep_back(settings: Settings, offer: RoundOffer) -> RoundOffer:
    """Return a site's offer without what has no noise: its loss, what it could not read, and how long it took."""
    return replace(offer, loss=None, unreadable=0, seconds=0.0) if settings.dp else offer


def stopped(settings: Settings, offers: Mapping[str, JoinOffer], plan: Plan) -> str:
    """Return the word from `STOPS` for a run that has done all rounds of a plan that the budget cut short."""
    return "budget" if settings.dp and plan.rounds < agreement.rounds(settings, offers, plan.batches) else ""
