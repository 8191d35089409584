"""A trainer that computes nothing."""

from __future__ import annotations

import numpy as np

from computation.training.trainer import Gradient, Trainer


class IdleTrainer(Trainer):
    """Answers every round with small random numbers, which pack as badly as a gradient, and evaluates nothing."""

    def gradient(self, round: int) -> Gradient:
        """Return random numbers, as if one scan had been seen."""
        values = np.random.default_rng(round).normal(0, 1e-6, self.manifest.size).astype(self.dtype)
        return Gradient(loss=1.0, samples=1, batches=1, skipped=(), vector=values)

    def evaluate(self, split: str) -> None:
        """Count nothing."""
