"""The network of the gossip study.

E. Mirzaei 2021: convolutions of 64 (5x5), 128 (5x5) and 64 (3x3) channels, pooling after the first two, layers of 256
and 10. No padding is named, so there is none: 28 x 28 shrinks to 2 x 2. The layers end in ReLU.
"""

from __future__ import annotations

import torch
from torch import nn


def gossip_network(seed: int, classes: int = 10) -> nn.Sequential:
    """Return the network, `(N, 3, 28, 28)` to `(N, classes)`, with weights drawn from the seed alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 64, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, classes),
        )
