"""FedAdam: Adam's second moment, a running mean of squares. Reddi et al. 2021, arXiv 2003.00295, algorithm 2."""

from __future__ import annotations

from computation.strategies.adaptive import Adaptive
from computation.training.optimiser import Floats

__all__ = ["FedAdam"]


class FedAdam(Adaptive):
    """`v = beta2 v + (1 - beta2) delta^2`."""

    def _second(self, old: Floats, square: Floats) -> Floats:
        return old * self.beta2 + square * (1 - self.beta2)
