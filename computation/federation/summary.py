"""The small final output of a run: what a results tab shows and what `summary.json` starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from computation.federation.centre import CentreRun
from computation.federation.counting import dice_of
from computation.federation.results import models_of
from computation.training.metrics import foreground_mean
from computation.wire.messages import STOPS

__all__ = ["summarise"]


def summarise(run: CentreRun) -> dict[str, Any]:
    """Return it, as plain JSON; `describes` says which model each number, and each site's predictions, are of."""
    assert run.results is not None
    announced = run.results
    best = run.selection.dice if announced.chosen else None
    final, chosen = models_of(announced)
    per_site = {
        site: {"model_digest": offer.model, "scans": run.offers[site].scans, "rounds_counted": run.contributed[site]}
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
