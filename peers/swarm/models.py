"""The models that a swarm can train, by name; all nodes of a channel begin with the same numbers."""

from __future__ import annotations

import math

import torch
from torch import nn

from computation.errors import PeersError
from peers.slices import Kind

__all__ = ["MODELS", "built"]

MODELS = ("linear", "perceptron", "convolutional")
_MOST_CLASSES = 65_536


def built(name: str, kind: Kind, seed: int) -> nn.Module:
    """Return a new model for slices of a kind.

    Raises
    ------
    PeersError
        If there is none of this name, or it does not fit the kind.
    """
    if name not in MODELS or not 2 <= kind.classes <= _MOST_CLASSES:
        raise PeersError(
            f"a model {name[:40]!r} of {kind.classes} classes; wanted one of {', '.join(MODELS)}, 2 or more"
        )
    if name == "convolutional" and (len(kind.shape) != 2 or min(kind.shape) < 4):
        raise PeersError(f"a convolutional model takes pictures of 4 x 4 or more, not inputs of {kind.shape}")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return _layers(name, kind)


def _layers(name: str, kind: Kind) -> nn.Module:
    size = math.prod(kind.shape)
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(size, kind.classes))
    if name == "perceptron":
        return nn.Sequential(nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Linear(64, kind.classes))
    height, width = (side // 4 for side in kind.shape)
    return nn.Sequential(
        nn.Unflatten(1, (1, kind.shape[0])),
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * height * width, kind.classes)),
    )
