"""The small final output of a run: what a results tab shows and what `summary.json` starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from computation.federation.counting import dice_of
from computation.federation.results import models_of
from computation.settings import Settings
from computation.training.metrics import foreground_mean
from computation.wire.messages import STOPS, FinishOffer, JoinOffer, Results

__all__ = ["Ended", "summarise"]


@dataclass(frozen=True)
class Ended:
    """What is known of a run at its end.

    Attributes
    ----------
    settings : Settings
        The owner's.
    offers : mapping of str to JoinOffer
        What each site brought.
    results : Results
        As they were announced.
    evaluations : mapping of str to FinishOffer
        Each site's last counts; of those that were there at the end.
    counted : mapping of str to int
        Rounds in which each site counted.
    best : float
        Pooled foreground Dice of the best model.
    """

    settings: Settings
    offers: Mapping[str, JoinOffer]
    results: Results
    evaluations: Mapping[str, FinishOffer]
    counted: Mapping[str, int]
    best: float


def summarise(run: Ended) -> dict[str, Any]:
    """Return it, as plain JSON; `describes` says which model each number, and each site's predictions, are of."""
    announced = run.results
    best = run.best if announced.chosen else None
    final, chosen = models_of(announced)
    per_site = {
        site: {"model_digest": offer.model, "scans": run.offers[site].scans, "rounds_counted": run.counted[site]}
        for site, offer in sorted(run.evaluations.items())
    }
    valid = {
        site: _keyed(dice_of(offer.evaluations["valid"], run.settings.classes))
        for site, offer in sorted(run.evaluations.items())
        if "valid" in offer.evaluations
    }
    return {
        "rounds": announced.rounds,
        "stopped": STOPS.get(announced.stop, ""),
        "describes": {"dice, test_dice, model_digest": final, "best_foreground_dice, predictions": chosen},
        "foreground_dice": foreground_mean(list(announced.dice.values())),
        "dice": {"pooled": _keyed(announced.dice), **valid},
        "not_in_dice": announced.missing,
        "best_round": announced.best,
        "best_foreground_dice": best,
        "test_foreground_dice": foreground_mean(list(announced.test_dice.values())),
        "test_dice": _keyed(announced.test_dice),
        "not_in_test_dice": announced.test_missing,
        "model": run.settings.model,
        "strategy": run.settings.strategy,
        "model_digest": announced.final,
        "sites": per_site,
    }


def _keyed(table: Mapping[str, float | None]) -> dict[str, float | None]:
    """Make class names safe as keys of the platform's result store, which refuses dots and dollars.

    A name that was safe stays as it is; one that becomes another's key gets a number, so that none is lost.
    """
    keyed: dict[str, float | None] = {}
    for name, value in table.items():
        safe = wanted = name.replace(".", "_").replace("$", "_")
        number = 2
        while safe != name and (safe in table or safe in keyed):
            safe, number = f"{wanted}_{number}", number + 1
        keyed[safe] = value
    return keyed
