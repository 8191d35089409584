"""Federated averaging: several local steps per round, then the weighted mean of the models.

McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", arXiv 1602.05629,
algorithm 1, with every site in every round. A site's optimiser keeps its own moments from round to round.
"""

from __future__ import annotations

from computation.strategies.average import Averaging
from computation.strategies.base import Combined, Stateless
from computation.training.learner import Learner
from computation.training.trainer import LocalResult, Trainer
from computation.wire.payload import Vector

__all__ = ["FedAvg"]


class FedAvg(Averaging, Stateless):
    """Average models; see the module."""

    def contribute(self, trainer: Trainer, round: int) -> tuple[Vector, float, int]:
        """Return the model after the local steps, and go back to the common one: the round may yet be void."""
        common = trainer.vector()
        try:
            result = self._steps(trainer, round)
            return trainer.vector(), result.loss, result.samples
        finally:
            trainer.load_vector(common)

    def _steps(self, trainer: Trainer, round: int) -> LocalResult:
        return trainer.local_steps(round)

    def origin(self, learner: Learner) -> Vector:
        """Return the common model."""
        return learner.vector()

    def apply(self, learner: Learner, combined: Combined) -> None:
        """Take over the mean model."""
        learner.load_vector(combined.values)
