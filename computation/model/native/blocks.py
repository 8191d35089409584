"""What a network consists of, as the kernels see it: tensors of each convolution, and the style that all share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from computation.errors import ModelError
from computation.model.native import calls

__all__ = ["MIXED", "NORMS", "Block", "Style", "check", "check_input", "unreadable"]

NORMS = ("none", "instance", "batch")
MIXED = "they compute in float32 (and float64), not in mixed precision"


@dataclass(frozen=True)
class Block:
    """The tensors of one convolution and its normalisation.

    Parameters
    ----------
    weight : Tensor
        (out, in, k, k, k), k 1 or 3.
    bias : Tensor or None
        (out,).
    gamma, beta : Tensor or None
        (out,), the affine part of the normalisation.
    running_mean, running_var : Tensor or None
        (out,), batch normalisation only; updated in place by a training step.
    dilation : int
        Also the padding.
    """

    weight: Tensor
    bias: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    dilation: int = 1


@dataclass(frozen=True)
class Style:
    """What all blocks of a network share.

    Parameters
    ----------
    norm : str
        "none", "instance" (GroupNorm with as many groups as channels) or "batch".
    activation : str
        "none", "relu", "elu" or "gelu" (the exact one).
    training : bool
        Batch normalisation by the statistics of the batch, and running averages updated; else by the running ones.
    momentum : float
        Weight of the new statistics in the running averages.
    eps : float
        Added to variances.
    keep : int
        1 stores every convolution's output for backward; k every k-th, recomputing the others.
    """

    norm: str = "instance"
    activation: str = "elu"
    training: bool = True
    momentum: float = 0.1
    eps: float = 1e-5
    keep: int = 1


def check(x: Tensor, blocks: Sequence[Block], head: Block | None, style: Style) -> None:
    """Refuse a network whose convolutions cannot follow each other, or an unknown style.

    Parameters
    ----------
    x : Tensor
        (batch, in, D, H, W), the input.
    blocks, head, style
        As in `functional.stack`.

    Raises
    ------
    ModelError
        Says what was found and what was wanted.
    """
    check_input(x)
    if style.norm not in NORMS or style.activation not in calls.ACTIVATIONS or style.keep < 1:
        raise ModelError(f"unknown layer style: norm {style.norm}, activation {style.activation}, keep {style.keep}")
    channels = x.shape[1]
    for block in [*blocks, *([head] if head else [])]:
        shape = tuple(block.weight.shape)
        fits = len(shape) == 5 and shape[0] > 0 and shape[1] == channels and shape[2:] in ((1, 1, 1), (3, 3, 3))
        if not fits or block.dilation < 1:
            raise ModelError(
                f"a convolution of weights {shape}, dilation {block.dilation} cannot follow {channels} channels"
            )
        _check_vectors(block, shape[0], x)
        channels = shape[0]


def check_input(x: Tensor) -> None:
    """Refuse what the kernels cannot read.

    Raises
    ------
    ModelError
        Says what was found and what was wanted.
    """
    if unreadable(x):
        raise ModelError(
            f"the kernels were given {tuple(x.shape)}, {x.dtype}, on {x.device}; they take (batch, channels, D, H, W) "
            "with no side of 0, float32 or float64, on the CPU"
        )


def unreadable(x: Tensor) -> str:
    """Say in a few words why the kernels cannot read a tensor; an empty text means that they can."""
    if x.device.type != "cpu":
        return f"the input is on {x.device.type}"
    if x.dtype not in (torch.float32, torch.float64):
        return MIXED
    if x.dim() != 5 or not x.numel():
        return "the input is not a non-empty (batch, channels, depth, height, width)"
    return ""


def _check_vectors(block: Block, channels: int, x: Tensor) -> None:
    """Refuse tensors of another type or device than the input, and vectors that are not one value a channel."""
    vectors = (block.bias, block.gamma, block.beta, block.running_mean, block.running_var)
    if any(t is not None and (t.dtype, t.device) != (x.dtype, x.device) for t in (block.weight, block.bias)):
        raise ModelError(f"weights are {block.weight.dtype}, the input is {x.dtype}; use one type, and the CPU for all")
    for vector in vectors:
        if vector is not None and (tuple(vector.shape) != (channels,) or vector.device != x.device):
            raise ModelError(f"a vector of {tuple(vector.shape)} belongs to {channels} channels; wanted one value each")
