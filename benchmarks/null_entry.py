"""A node whose trainer computes nothing; `null_round` starts one process of it for each site and for the centre."""

from __future__ import annotations

import sys

import numpy as np

from computation import entry
from computation.coinstac.server import Handler


def load(mode: str) -> Handler:
    """Return the product's own handler; a site's has a trainer that offers a constant gradient."""
    if mode == "remote":
        return entry.load_handler(mode)
    from computation import local
    from computation.training.trainer import Gradient, Trainer

    class NullTrainer(Trainer):
        def gradient(self, round: int) -> Gradient:
            return Gradient(0.0, 1, 1, (), np.full(self.manifest.size, 1e-3, self.dtype))

    return local.create(NullTrainer)


if __name__ == "__main__":
    sys.exit(entry.main(load))
