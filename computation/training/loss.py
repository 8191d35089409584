"""Cross-entropy and soft Dice, as a mean over samples.

Both are computed for each sample on its own and then averaged, so that gradients accumulated over micro-batches,
weighted by their samples, are those of the one large batch. They run in float32 (float64 for a float64 network) outside
autocast, and sum in float64: sums over a volume overflow or vanish in less.

Both need of the volume only a few sums for each class, which the native kernels take in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from computation.model import native
from computation.settings import Settings

__all__ = ["Loss", "class_sums", "criterion", "cross_entropy", "soft_dice"]

#: Maps scores `(N, K, D, H, W)` and labels `(N, D, H, W)` to one number, the mean over the N samples.
Loss = Callable[[Tensor, Tensor], Tensor]


def criterion(settings: Settings) -> Loss:
    """Return the loss that the settings name: cross-entropy, soft Dice, or their sum."""
    return partial(_criterion, kind=settings.loss, smoothing=settings.label_smoothing, weights=settings.class_weights)


def _criterion(scores: Tensor, labels: Tensor, *, kind: str, smoothing: float, weights: tuple[float, ...]) -> Tensor:
    with torch.autocast(scores.device.type, enabled=False):
        sums = class_sums(scores if scores.dtype == torch.float64 else scores.float(), labels)
        parts = []
        if "ce" in kind.split("+"):
            parts.append(cross_entropy(sums, smoothing=smoothing, weights=weights))
        if "dice" in kind.split("+"):
            parts.append(soft_dice(sums))
        return torch.stack(parts).sum(dim=0).mean()


def class_sums(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum the softmax over the voxels of each sample and class.

    Parameters
    ----------
    scores : Tensor
        Shape `(N, K, D, H, W)`, before the softmax.
    labels : Tensor
        Shape `(N, D, H, W)`, int64 in 0..K-1.

    Returns
    -------
    Tensor
        Shape `(N, K, 5)`, float64. With `p` the softmax and `y` the labels, the sums over voxels of `p_k`; of `p_k`
        where `y = k`; of 1 where `y = k`; of `-log p_k` where `y = k`; of `-log p_k`.
    """
    if not native.obstacle(scores):
        return native.class_sums(scores, labels)
    rows = []
    # One class at a time: a one-hot volume of a hundred classes would need gigabytes.
    for label, logs in enumerate(torch.log_softmax(scores, dim=1).unbind(1)):
        truth, shares = labels == label, logs.exp()
        terms = (shares, torch.where(truth, shares, 0.0), truth, torch.where(truth, -logs, 0.0), -logs)
        rows.append(torch.stack([term.flatten(1).sum(1, dtype=torch.float64) for term in terms], 1))
    return torch.stack(rows, 1)


def cross_entropy(sums: Tensor, *, smoothing: float = 0.0, weights: tuple[float, ...] = ()) -> Tensor:
    """Return each sample's cross-entropy with label smoothing and class weights.

    Over the voxels `v` of a sample with label `y`, class weights `w` and smoothing `s`::

        sum_v [(1 - s) w_y (-log p_y) + s / K sum_k w_k (-log p_k)] / sum_v w_y

    This is `torch.nn.functional.cross_entropy` of one sample, whose target distribution is that of Szegedy et al. 2016,
    arXiv 1512.00567, section 7.

    Parameters
    ----------
    sums : Tensor
        Shape `(N, K, 5)`, from `class_sums`.
    smoothing : float
        Share of the target spread over all classes.
    weights : tuple of float
        One for each class; empty for equal ones.

    Returns
    -------
    Tensor
        Shape `(N,)`. A sample whose voxels all have weight zero contributes zero.
    """
    classes = sums.shape[1]
    # Ones are made where they are needed: values from the host would hold up a GPU's queue in every step.
    weight = sums.new_tensor(weights) if weights else sums.new_ones(classes)
    _, _, voxels, hits, spread = sums.unbind(2)
    total = (weight * voxels).sum(1)
    value = (weight * ((1 - smoothing) * hits + smoothing / classes * spread)).sum(1)
    return torch.where(total > 0, value / torch.where(total > 0, total, 1.0), 0.0)


def soft_dice(sums: Tensor) -> Tensor:
    """Return one minus each sample's mean soft Dice over the classes that occur in its labels.

    For class `k` with probabilities `p` and indicator `t`: `2 sum(p t) / (sum(p) + sum(t))` (Milletari et al. 2016,
    arXiv 1606.04797, with the denominator of first powers). A class that does not occur would have Dice zero whatever
    the network does; it is left to the cross-entropy and to the denominators of the others.

    Parameters
    ----------
    sums : Tensor
        Shape `(N, K, 5)`, from `class_sums`.

    Returns
    -------
    Tensor
        Shape `(N,)`, from 0 to 1.
    """
    shares, overlap, voxels, _, _ = sums.unbind(2)
    there = voxels > 0
    # Dividing by one where the class is absent: 0 / 0 would put NaN into the gradient even if it is not selected.
    dices = 2 * overlap / torch.where(there, shares + voxels, 1.0)
    return 1 - torch.where(there, dices, 0.0).sum(1) / there.sum(1)
