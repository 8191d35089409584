"""FedAvgM: federated averaging with momentum at the server.

Hsu et al. 2019, "Measuring the effects of non-identical data distribution for federated visual classification", arXiv
1909.06335: `v = beta v + delta`, then `x = x + rate v`, where delta is what the mean model moved by.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.server_step import ServerStep
from computation.training.optimiser import Floats

__all__ = ["FedAvgM"]


class FedAvgM(ServerStep):
    """Step towards the mean model with momentum; see the module.

    Parameters
    ----------
    rate : float
        Of the step; 0 is one less the momentum, so that all steps after a delta come to one delta.
    momentum : float
        Share of the moment that stays, below 1; with 0 and a rate of 1 this is federated averaging, bit for bit.
    """

    def __init__(self, rate: float, momentum: float) -> None:
        super().__init__("momentum")
        self.rate, self.momentum = rate or 1.0 - momentum, momentum

    def _stepped(self, common: Floats, mean: Floats) -> Floats:
        delta = mean - common
        moved = self._moments.get("momentum", np.zeros_like(delta)) * self.momentum + delta
        self._moments = {"momentum": moved}
        # From the mean, and not from the common model: where the step is delta the mean is taken, and its sign of zero.
        short = delta - moved * self.rate
        return np.where(short, mean - short, mean)
