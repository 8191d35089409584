"""SCAFFOLD: local steps corrected by how a site's gradient differs from all sites'.

Karimireddy et al. 2020, "SCAFFOLD: stochastic controlled averaging for federated learning", arXiv 1910.06378,
algorithm 1 with option II and a server rate of 1. Site i holds a control variate `c_i`, all hold their mean `c`, and
each local step goes along `g - c_i + c`. After a round from `x`, of K steps with rate eta, that ends at `y_i`::

    c_i = c_i - c + (x - y_i) / (K eta)

The paper sends what `c_i` changed by beside `y_i`. Here it stays at the site. Sum the line above over the s sites of
the round, whose models have the mean `y`, while the others' `c_i` stay: of m sites with a control variate, none new::

    c = (1 - s / m) c + s / m (x - y) / (K eta)

So `c` follows from the mean model that everybody has anyhow, and is the mean of all `c_i` exactly, whoever is missing,
where the sites weigh the same, and K and eta are the nominal ones even where a site took fewer steps. New sites, whose
`c_i` is nothing yet, only enlarge m.

It is no longer exact where a site's model was scaled down before the mean, and grows stale where a site stays away.
Then all begin anew with control variates of nothing, which is a round of federated averaging. All know when.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import ResumeError
from computation.strategies.base import Combined
from computation.strategies.fedavg import FedAvg
from computation.training.learner import Learner
from computation.training.optimiser import Floats
from computation.training.trainer import LocalResult, Trainer
from computation.wire.payload import Vector

__all__ = ["Scaffold"]


class Scaffold(FedAvg):
    """Average models after corrected steps; see the module.

    Parameters
    ----------
    site : str
        Whose control variate is kept here; empty at the centre, which needs none.
    patience : int
        Rounds that a site may be away before its control variate is too old for the others to be corrected by it.
    """

    def __init__(self, site: str = "", patience: int = 3) -> None:
        self.site, self.patience = site, patience
        self._begin_anew()
        #: What this site's control variate is to change by, but for `c`, and in which round it was offered.
        self._offered: tuple[int, Floats] | None = None

    def _begin_anew(self) -> None:
        self._common: Floats | None = None
        self._own: Floats | None = None
        #: The latest round of each site that has a control variate.
        self._latest: dict[str, int] = {}

    def _steps(self, trainer: Trainer, round: int) -> LocalResult:
        if self._common is None or self._own is None:
            return super()._steps(trainer, round)
        correction = self._common - self._own
        return trainer.local_steps(round, lambda values, gradient: gradient + correction)

    def contribute(self, trainer: Trainer, round: int) -> tuple[Vector, float, int]:
        """Return the model after the corrected local steps; the control variate waits for the round to count."""
        values, loss, samples = super().contribute(trainer, round)
        self._offered = round, _slope(trainer, values, round)
        return values, loss, samples

    def apply(self, learner: Learner, combined: Combined) -> None:
        """Take over the mean model, and bring the control variates to the end of the round."""
        if self.site:
            self._follow(learner, combined)
        super().apply(learner, combined)

    def _follow(self, learner: Learner, combined: Combined) -> None:
        oldest = combined.round - self.patience
        away = [site for site, latest in self._latest.items() if latest < oldest and site not in combined.sites]
        if combined.clipped or away:
            self._begin_anew()
            return
        slope = _slope(learner, combined.values, combined.round)
        common = np.zeros_like(slope) if self._common is None else self._common
        own = np.zeros_like(slope) if self._own is None else self._own
        if self.site in combined.sites and self._offered and self._offered[0] == combined.round:
            own = own - common + self._offered[1]
        before, now = len(self._latest), len(combined.sites)
        self._latest = {**self._latest, **dict.fromkeys(combined.sites, combined.round)}
        known = len(self._latest)
        self._common, self._own = common * ((before - now) / known) + slope * (now / known), own

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the control variates, what waits for the round to count, and who was in which round last."""
        round, offered = self._offered or (0, None)
        arrays = {"common": self._common, "own": self._own, "offered": offered}
        kept = {name: array for name, array in arrays.items() if array is not None}
        return kept, {"latest": dict(self._latest), "offered": round} if kept else {}

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state; raises `ResumeError` if it is not one of this strategy."""
        latest, offered = values.get("latest", {}), values.get("offered", 0)
        if not (set(arrays) <= {"common", "own", "offered"} and set(values) <= {"latest", "offered"}):
            raise ResumeError("the checkpoint holds the state of another strategy; start the run again")
        self._common, self._own = arrays.get("common"), arrays.get("own")
        self._latest = dict(latest)
        self._offered = (offered, arrays["offered"]) if "offered" in arrays else None


def _slope(learner: Learner, values: Vector, round: int) -> Floats:
    """Return the mean gradient along which plain steps would lead from a learner's parameters to others."""
    where = learner.parts["parameters"]
    moved = learner.vector()[where].astype(np.float64) - values[where]
    slope: Floats = moved / (learner.settings.local_steps * learner.rate(round))
    return slope
