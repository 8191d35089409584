"""FedYogi: Yogi's second moment, which falls no faster than it rises. Reddi et al. 2021, arXiv 2003.00295, algorithm 2.

Once large, it forgets a share of the newest square only, and not of itself, so that rare large updates are not soon
followed by large steps.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.adaptive import Adaptive
from computation.training.optimiser import Floats

__all__ = ["FedYogi"]


class FedYogi(Adaptive):
    """`v = v - (1 - beta2) delta^2 sign(v - delta^2)`, which is never negative."""

    def _second(self, old: Floats, square: Floats) -> Floats:
        return old - square * (1 - self.beta2) * np.sign(old - square)
