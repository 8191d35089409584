"""FedProx: federated averaging whose local steps are drawn back to the common model.

Li et al. 2020, "Federated optimization in heterogeneous networks", arXiv 1812.06127, algorithm 2: each site lowers
`F(w) + mu / 2 |w - common|^2`, with whatever optimiser it has. Its reported loss is F.
"""

from __future__ import annotations

import numpy as np

from computation.strategies.fedavg import FedAvg
from computation.training.optimiser import Floats
from computation.training.trainer import LocalResult, Trainer

__all__ = ["FedProx"]


class FedProx(FedAvg):
    """Average models that stay near the common one; see the module.

    Parameters
    ----------
    proximal : float
        The weight mu; with 0 this is federated averaging.
    """

    def __init__(self, proximal: float) -> None:
        self.proximal = proximal

    def _steps(self, trainer: Trainer, round: int) -> LocalResult:
        if not self.proximal:
            return super()._steps(trainer, round)
        common = trainer.vector()[trainer.parts["parameters"]].astype(np.float64)

        def drawn_back(values: Floats, gradient: Floats) -> Floats:
            return gradient + self.proximal * (values - common)

        return trainer.local_steps(round, drawn_back)
