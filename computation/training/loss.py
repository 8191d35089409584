"""Cross-entropy and soft Dice, as a mean over samples.

Both are computed for each sample on its own and then averaged, so that gradients accumulated over micro-batches,
weighted by their samples, are those of the one large batch. They run in float32 (float64 for a float64 network) outside
autocast: sums over a volume overflow or vanish in less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from computation.settings import Settings

__all__ = ["Loss", "criterion", "cross_entropy", "soft_dice"]

#: Maps scores `(N, K, D, H, W)` and labels `(N, D, H, W)` to one number, the mean over the N samples.
Loss = Callable[[Tensor, Tensor], Tensor]


def criterion(settings: Settings) -> Loss:
    """Return the loss that the settings name: cross-entropy, soft Dice, or their sum."""
    return partial(_criterion, kind=settings.loss, smoothing=settings.label_smoothing, weights=settings.class_weights)


def _criterion(scores: Tensor, labels: Tensor, *, kind: str, smoothing: float, weights: tuple[float, ...]) -> Tensor:
    with torch.autocast(scores.device.type, enabled=False):
        logs = torch.log_softmax(_widen(scores), dim=1)
        parts = []
        if "ce" in kind.split("+"):
            parts.append(cross_entropy(logs, labels, smoothing=smoothing, weights=weights))
        if "dice" in kind.split("+"):
            parts.append(soft_dice(logs, labels))
        return torch.stack(parts).sum(dim=0).mean()


def _widen(scores: Tensor) -> Tensor:
    return scores if scores.dtype == torch.float64 else scores.float()


def cross_entropy(logs: Tensor, labels: Tensor, *, smoothing: float = 0.0, weights: tuple[float, ...] = ()) -> Tensor:
    """Return each sample's cross-entropy with label smoothing and class weights.

    Over the voxels `v` of a sample with label `y`, class weights `w` and smoothing `s`::

        sum_v [(1 - s) w_y (-log p_y) + s / K sum_k w_k (-log p_k)] / sum_v w_y

    This is `torch.nn.functional.cross_entropy` of one sample, whose target distribution is that of Szegedy et al. 2016,
    arXiv 1512.00567, section 7.

    Parameters
    ----------
    logs : Tensor
        Shape `(N, K, D, H, W)`, log-probabilities.
    labels : Tensor
        Shape `(N, D, H, W)`, int64 in 0..K-1.
    smoothing : float
        Share of the target spread over all classes.
    weights : tuple of float
        One for each class; empty for equal ones.

    Returns
    -------
    Tensor
        Shape `(N,)`. A sample whose voxels all have weight zero contributes zero.
    """
    classes = logs.shape[1]
    truth = labels.unsqueeze(1)
    hit = -logs.gather(1, truth).flatten(1)
    spread = -logs.flatten(2)
    if not weights:
        return (1 - smoothing) * hit.mean(1) + smoothing * spread.mean((1, 2))
    weight = torch.tensor(weights, dtype=logs.dtype, device=logs.device)
    of_voxel = weight[labels].flatten(1)
    total = of_voxel.sum(1)
    spread_mean = (weight[:, None] * spread).sum((1, 2)) * (smoothing / classes)
    sums = (1 - smoothing) * (of_voxel * hit).sum(1) + spread_mean
    return torch.where(total > 0, sums / torch.where(total > 0, total, 1.0), 0.0)


def soft_dice(logs: Tensor, labels: Tensor) -> Tensor:
    """Return one minus each sample's mean soft Dice over the classes that occur in its labels.

    For class `k` with probabilities `p` and indicator `t`: `2 sum(p t) / (sum(p) + sum(t))` (Milletari et al. 2016,
    arXiv 1606.04797, with the denominator of first powers). A class that does not occur would have Dice zero whatever
    the network does; it is left to the cross-entropy and to the denominators of the others.

    Parameters
    ----------
    logs : Tensor
        Shape `(N, K, D, H, W)`, log-probabilities.
    labels : Tensor
        Shape `(N, D, H, W)`, int64 in 0..K-1.

    Returns
    -------
    Tensor
        Shape `(N,)`, from 0 to 1.
    """
    dices, present = [], []
    # One class at a time: a one-hot volume of a hundred classes would need gigabytes.
    for label, share in enumerate(logs.exp().unbind(1)):
        truth = labels == label
        voxels = truth.flatten(1).sum(1)
        overlap = torch.where(truth, share, 0.0).flatten(1).sum(1)
        # Dividing by one where the class is absent: 0 / 0 would put NaN into the gradient even if it is not selected.
        dices.append(2 * overlap / torch.where(voxels > 0, share.flatten(1).sum(1) + voxels, 1.0))
        present.append(voxels > 0)
    there = torch.stack(present, 1)
    return 1 - torch.where(there, torch.stack(dices, 1), 0.0).sum(1) / there.sum(1)
