"""Weights & Biases, when a site asks for it for itself: imported only then, and never a reason to stop training.

Only this site's own numbers go there. What the other sites' scans gave, pooled or not, is not one member's to publish.
The names are those that the prototype `coinstac-meshnet` and its laboratory log, so that their dashboards fit.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computation.tracking.journal import Journal
from computation.tracking.numbers import RoundNumbers, mean

__all__ = ["WandbLog", "named_metrics"]

_PROJECT = "coinstac-meshnet"
#: Seconds to wait for the server at either end; a site behind a firewall must not hold up the others for longer.
_PATIENCE = 20


def named_metrics(numbers: RoundNumbers, classes: Sequence[str]) -> dict[str, float]:
    """Return a round's numbers under the prototype's names.

    `loss` is this site's training loss and `Step_LR` the learning rate. `Dice 0`, `Dice 1`, ... and `Dice Score`,
    their mean with the background as the prototype has it, are over this site's validation scans, as are
    `Val Dice 0`, ... and `Val Dice Score`. (The prototype's `Dice 0` is of one training batch; that is not computed.)

    Parameters
    ----------
    numbers : RoundNumbers
        The round.
    classes : sequence of str
        Class names; the place of a name is its number.

    Returns
    -------
    dict of float
        Only what is known and finite.
    """
    dice = [numbers.own_dice.get(name) for name in classes]
    found: dict[str, float | None] = {
        "round": numbers.round,
        "loss": numbers.own_loss,
        "Step_LR": numbers.learning_rate,
    }
    for prefix in ("Dice", "Val Dice"):
        found |= {f"{prefix} {place}": value for place, value in enumerate(dice)}
        found[f"{prefix} Score"] = mean(dice)
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


class WandbLog:
    """One site's run at Weights & Biases. The first failure ends the logging and is a line in the journal.

    Parameters
    ----------
    wish : mapping of str
        The member's object: `project`, `entity`, `name`, `group`, `mode` (`offline` or `online`), `api_key`.
    folder : Path
        Where offline runs are kept.
    journal : Journal
        Where failures are told. The key is never written anywhere.
    """

    def __init__(self, wish: Mapping[str, str], folder: Path, journal: Journal) -> None:
        self._wish, self._folder, self._journal = dict(wish), folder, journal
        self._key = self._wish.pop("api_key", "") or os.environ.get("WANDB_API_KEY", "")
        self._module: Any = None
        self._run: Any = None

    def start(self, run: str, site: str, config: Mapping[str, Any]) -> None:
        """Import the library and open the run.

        Parameters
        ----------
        run, site : str
            Names of the run and of this site; a restarted site goes on with the same record.
        config : mapping
            Settings to show beside the curves.
        """
        if self._online and not self._key:
            self._fail("start", "no key: set WANDB_API_KEY at the site, or api_key in the site's own wandb object")
            return
        try:
            self._module = importlib.import_module("wandb")
            self._run = self._open(run, site, config)
            self._run.define_metric("round")
            self._run.define_metric("*", step_metric="round")
        except Exception as error:  # whatever a third party's library does, training goes on
            self._fail("start", error)
        else:
            self._journal.write("wandb", mode=self._mode, project=self._wish.get("project", _PROJECT))

    @property
    def _mode(self) -> str:
        return self._wish.get("mode", "offline")

    @property
    def _online(self) -> bool:
        return self._mode == "online"

    def _open(self, run: str, site: str, config: Mapping[str, Any]) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{run}-{site}" if run else site
        return self._module.init(
            project=self._wish.get("project", _PROJECT),
            entity=self._wish.get("entity") or None,
            name=self._wish.get("name", name),
            group=self._wish.get("group", run) or None,
            id="".join(letter if letter.isalnum() else "-" for letter in name)[:64] or None,
            resume="allow" if self._online else None,
            mode=self._mode,
            dir=str(self._folder),
            config=dict(config),
            settings=self._quiet(site),
        )

    def _quiet(self, site: str) -> Any:
        """Return settings under which the library sends metrics and nothing of the machine, code or logs."""
        return self._module.Settings(
            api_key=self._key if self._online else None,
            silent=True,
            console="off",
            host=site,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            init_timeout=_PATIENCE,
            finish_timeout=_PATIENCE,
        )

    def round(self, numbers: RoundNumbers, classes: Sequence[str]) -> None:
        """Log one round."""
        if self._run is None:
            return
        try:
            self._run.log(named_metrics(numbers, classes))
        except Exception as error:  # see start
            self._fail("log", error)

    def close(self) -> None:
        """End the run and the library's own process."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            run.finish()
            self._module.teardown()
        except Exception as error:  # see start
            self._fail("finish", error)

    def _fail(self, doing: str, error: object) -> None:
        self._run = None
        text = str(error).replace(self._key, "***") if self._key else str(error)
        self._journal.write("wandb-failed", doing=doing, error=text[:500])
