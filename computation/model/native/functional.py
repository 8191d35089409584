"""MeshNet's layers on the native kernels, differentiable once: `conv3d`, `layer`, and `stack`, the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from computation.errors import ModelError
from computation.model.native import calls
from computation.model.native.blocks import MIXED, Block, Style, check, check_input, unreadable
from computation.model.native.chain import Chain, Tape
from computation.model.native.loader import status
from computation.model.native.volumes import trim

__all__ = ["class_sums", "conv3d", "keep_within", "layer", "obstacle", "stack"]


def obstacle(x: Tensor) -> str:
    """Say why the native kernels cannot take an input; an empty text means that they can.

    Parameters
    ----------
    x : Tensor
        The network's input.

    Returns
    -------
    str
        One line for the journal, or "".
    """
    reason = unreadable(x) or (MIXED if torch.is_autocast_enabled("cpu") else "")
    if reason:
        return f"native kernels off: {reason}"
    found = status()
    return "" if found.available else found.reason


def keep_within(memory: int, voxels: int, width: int, layers: int) -> int:
    """Choose the smallest `Style.keep` with which the stored volumes of a training step fit.

    Parameters
    ----------
    memory : int
        Bytes for stored outputs and gradients.
    voxels : int
        Voxels of the whole batch.
    width, layers : int
        Channels and number of 3x3x3 convolutions.

    Returns
    -------
    int
        From 1 to `layers`; `layers` also when nothing fits.
    """
    volumes = memory // (4 * voxels * width)
    return next((k for k in range(1, layers) if (layers if k == 1 else layers // k) + 2 <= volumes), layers)


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """Convolve with stride 1 and zeros outside, so that the size is kept.

    Parameters
    ----------
    x : Tensor
        (batch, in, D, H, W).
    weight, bias : Tensor
        (out, in, k, k, k) with k 1 or 3; (out,) or None.
    dilation : int
        Distance of the taps.

    Returns
    -------
    Tensor
        (batch, out, D, H, W).
    """
    return stack(x, [Block(weight, bias, dilation=dilation)], None, Style("none", "none"))


def layer(x: Tensor, block: Block, style: Style) -> Tensor:
    """Convolve, normalise and activate: one layer whose result is needed as such.

    Parameters
    ----------
    x : Tensor
        (batch, in, D, H, W).
    block, style
        The layer's tensors and kind.

    Returns
    -------
    Tensor
        (batch, out, D, H, W).
    """
    return stack(x, [block], None, style)


def stack(x: Tensor, blocks: Sequence[Block], head: Block | None, style: Style) -> Tensor:
    """Run a whole MeshNet: blocks of convolution, normalisation and activation, then a last plain convolution.

    Without gradients (``torch.no_grad``) at most two activations exist at any time.

    Parameters
    ----------
    x : Tensor
        (batch, in, D, H, W), float32 or float64 on the CPU.
    blocks : sequence of Block
        At least one.
    head : Block or None
        The last convolution, whose output is returned as it is; None: the last block's activation is returned.
    style : Style
        Kind of normalisation and activation.

    Returns
    -------
    Tensor
        (batch, classes, D, H, W).

    Raises
    ------
    ModelError
        The tensors do not fit each other, or the style is unknown.
    """
    check(x, blocks, head, style)
    chain = Chain(tuple(blocks), head, style)
    inputs = [x, *chain.parameters()]
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)):
        found = chain.run(x.detach(), Tape(0))
        trim()
        return found
    result: Tensor = _Stack.apply(chain, *inputs)  # type: ignore[no-untyped-call]
    return result


def class_sums(scores: Tensor, labels: Tensor) -> Tensor:
    """Sum the softmax over the voxels of each class: all that cross-entropy and soft Dice need, differentiable.

    With p the softmax over classes and y the label of a voxel, the last axis holds the sums over voxels of: p_k; p_k
    where y = k; 1 where y = k; -log p_k where y = k; -log p_k. Nothing of a volume's size is stored but the scores.

    Parameters
    ----------
    scores : Tensor
        (batch, classes, D, H, W), float32 or float64 on the CPU.
    labels : Tensor
        (batch, D, H, W), int64.

    Returns
    -------
    Tensor
        (batch, classes, 5), float64.

    Raises
    ------
    ModelError
        Shapes do not fit, or a label is not a class.
    """
    check_input(scores)
    wanted = (scores.shape[0], *scores.shape[2:])
    if labels.dtype != torch.int64 or labels.device != scores.device or labels.shape != wanted:
        raise ModelError(f"scores {tuple(scores.shape)} need int64 labels of one per voxel, not {tuple(labels.shape)}")
    sums: Tensor = _ClassSums.apply(scores, labels)  # type: ignore[no-untyped-call]
    if int(sums[..., 2].sum()) != labels.numel():
        raise ModelError(f"a label is not one of the {scores.shape[1]} classes; import the labels again")
    return sums


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, chain: Chain, x: Tensor, *parameters: Tensor | None) -> Tensor:
        ctx.chain, ctx.tape = chain, Tape(chain.style.keep)
        ctx.save_for_backward(x, *parameters)
        found = chain.run(x, ctx.tape)
        trim()
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        found = ctx.chain.differentiate(grad, x, ctx.tape, list(ctx.needs_input_grad[1:]))
        trim()
        typed = (None if g is None else g.to(p.dtype) for g, p in zip(found, [x, *parameters], strict=True))
        return None, *typed


class _ClassSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(scores, labels)
        return calls.scores(scores, labels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        scores, labels = ctx.saved_tensors
        return calls.scores_backward(scores, labels, grad), None
