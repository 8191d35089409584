"""What a run came to: the last counts of all sites, pooled, and the two models that are kept."""

from __future__ import annotations

from collections.abc import Mapping

from computation.federation import claims
from computation.federation.selection import Selection, pooled, select, wanting
from computation.tracking import Tracker
from computation.training.learner import Learner
from computation.wire import payload
from computation.wire.messages import Evaluation, FinishOffer, Results
from computation.wire.payload import Vector

__all__ = ["results"]


def results(
    chosen: Selection,
    offers: Mapping[str, FinishOffer],
    learner: Learner,
    rounds: int,
    stop: str,
    tracker: Tracker,
) -> tuple[Results, dict[str, Vector]]:
    """Pool the sites' last counts, and return what is announced of them, and the `final` and the `best` model.

    Parameters
    ----------
    chosen : Selection
        The best model so far; the final one is compared with it.
    offers : mapping of str to FinishOffer
        Each site's counts of the final model.
    learner : Learner
        Holds the final model.
    rounds : int
        That were run.
    stop : str
        Why there are no more; see `STOPS`.
    tracker : Tracker
        Told what must not be hidden.

    Raises
    ------
    MessageError
        Naming a site that counted another model, or more than it joined with.
    """
    valid, test = _counts(offers, "valid"), _counts(offers, "test")
    claims.check_counts(chosen.joined, "test", test, rounds, len(chosen.settings.classes))
    final = learner.vector()
    done = select(chosen, valid, final, rounds, tracker, rounds + 1)
    best, values = (chosen.best, chosen.values) if chosen.best >= 0 else (rounds, final)
    announced = Results(
        rounds=rounds,
        final=learner.digest(),
        best=best,
        best_model=payload.digest(learner.manifest, values),
        dice=done.dice,
        test_dice=pooled(test, chosen.settings),
        missing=done.missing,
        test_missing=wanting(test, chosen.joined, "test"),
        chosen=chosen.best >= 0,
        stop=stop,
    )
    return announced, {"final": final, "best": values}


def _counts(offers: Mapping[str, FinishOffer], split: str) -> dict[str, Evaluation]:
    return {site: offer.evaluations[split] for site, offer in offers.items() if split in offer.evaluations}
