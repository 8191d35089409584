"""Gradient averaging: one averaged gradient per round, stepped by every site's own identical optimiser.

Synchronous distributed stochastic gradient descent, as the thesis does it: with S sites it equals one machine that
takes the weighted mean over the same batches. Also known as FedSGD (McMahan et al. 2017, arXiv 1602.05629).
"""

from __future__ import annotations

from computation.strategies.average import Averaging
from computation.strategies.base import Combined, Stateless
from computation.training.learner import Learner
from computation.training.trainer import Trainer
from computation.wire.payload import Vector

__all__ = ["GradientMean"]


class GradientMean(Averaging, Stateless):
    """Average gradients; see the module."""

    def contribute(self, trainer: Trainer, round: int) -> tuple[Vector, float, int]:
        """Return the gradient over the round's batches; batch-norm statistics ride behind it under policy `sync`."""
        gradient = trainer.gradient(round)
        return gradient.vector, gradient.loss, gradient.samples

    def origin(self, learner: Learner) -> Vector:
        """Return no gradient, and the common batch-norm statistics behind it."""
        values = learner.vector().copy()
        values[learner.parts["parameters"]] = 0
        return values

    def apply(self, learner: Learner, combined: Combined) -> None:
        """Step the optimiser once with the mean gradient."""
        learner.apply_gradient(combined.values, combined.round)
