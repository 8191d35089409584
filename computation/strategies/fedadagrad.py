"""FedAdagrad: Adagrad's second moment, the sum of all squares. Reddi et al. 2021, arXiv 2003.00295, algorithm 2.

Steps only become smaller. The paper runs it without momentum: set `server_momentum` to 0 for that.
"""

from __future__ import annotations

from computation.strategies.adaptive import Adaptive
from computation.training.optimiser import Floats

__all__ = ["FedAdagrad"]


class FedAdagrad(Adaptive):
    """`v = v + delta^2`."""

    def _second(self, old: Floats, square: Floats) -> Floats:
        return old + square
