"""What FedAdam, FedYogi and FedAdagrad share: each parameter's step is divided by the size of its own steps so far.

Reddi et al. 2021, arXiv 2003.00295, algorithm 2, where delta is what the mean model moved by::

    m = beta1 m + (1 - beta1) delta
    v = (each its own way)
    x = x + rate m / (sqrt(v) + tau)

As there, v begins at tau squared and no moment is corrected for having begun at zero.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from computation.strategies.server_step import ServerStep
from computation.training.optimiser import Floats

__all__ = ["Adaptive"]

#: The rate where the owner names none: a step of the size of a usual local one, whatever the sites' own rates.
_RATE = 0.01


class Adaptive(ServerStep):
    """Step towards the mean model, each parameter in its own measure; see the module.

    Parameters
    ----------
    rate : float
        Of the step; 0 is 0.01.
    momentum : float
        Share of the first moment that stays: beta1.
    adaptivity : float
        Added to the root of the second moment: tau. The larger it is, the more alike are all parameters' steps.
    """

    #: Share of the second moment that stays, as the paper has it throughout.
    beta2 = 0.99

    def __init__(self, rate: float, momentum: float, adaptivity: float) -> None:
        super().__init__("first", "second")
        self.rate, self.momentum, self.adaptivity = rate or _RATE, momentum, adaptivity

    def _stepped(self, common: Floats, mean: Floats) -> Floats:
        delta = mean - common
        old = self._moments or {
            "first": np.zeros_like(delta),
            "second": np.full_like(delta, self.adaptivity * self.adaptivity),
        }
        first = old["first"] * self.momentum + delta * (1 - self.momentum)
        second = self._second(old["second"], delta * delta)
        self._moments = {"first": first, "second": second}
        stepped: Floats = common + first / (np.sqrt(second) + self.adaptivity) * self.rate
        return stepped

    @abstractmethod
    def _second(self, old: Floats, square: Floats) -> Floats:
        """Return the second moment from the one before and the square of what the mean model moved by."""
