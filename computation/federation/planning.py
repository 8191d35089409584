"""From what the sites said at join to the plan of the run; whoever has all offers comes to the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from computation.federation import agreement, portions, privacy
from computation.federation.masking import circle
from computation.settings import Settings
from computation.training.learner import Learner
from computation.wire.messages import JoinOffer, Plan

__all__ = ["Agreed", "agreed", "plan"]


@dataclass(frozen=True)
class Agreed:
    """What follows from the offers alone.

    Attributes
    ----------
    settings : Settings
        What all sites share.
    notes : tuple of str
        Differences that are allowed but not hidden.
    batches : dict of str to int
        Of each site that trains, in a round.
    rounds : int
        Of the run.
    """

    settings: Settings
    notes: tuple[str, ...]
    batches: dict[str, int]
    rounds: int


def agreed(offers: Mapping[str, JoinOffer]) -> Agreed:
    """Settle what the sites agree on; raises as `agreement.agree`, `agreement.rounds` and `privacy.limit`."""
    settings, notes = agreement.agree(offers)
    scans = {site: offer.scans["train"] for site, offer in offers.items() if offer.trains}
    batches = portions.batches(settings, scans)
    rounds, limits = privacy.limit(settings, offers, batches, agreement.rounds(settings, offers, batches))
    return Agreed(settings, (*notes, *limits), batches, rounds)


def plan(run: str, offers: Mapping[str, JoinOffer], done: Agreed, learner: Learner) -> Plan:
    """Return the plan of a run.

    Parameters
    ----------
    run : str
        Its name.
    offers : mapping of str to JoinOffer
        One for each site.
    done : Agreed
        What they came to.
    learner : Learner
        Of the run; it holds the model to start from, unless the owner names one.
    """
    return Plan(
        run=run,
        rounds=done.rounds,
        sites=tuple(sorted(offers)),
        manifest=learner.manifest.digest,
        model=done.settings.initial_model or learner.digest(),
        notes=done.notes,
        evaluators=agreement.evaluators(offers),
        batches=done.batches,
        masking=circle.agreed(offers, done.settings),
    )
