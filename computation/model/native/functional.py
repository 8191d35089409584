"""MeshNet's layers on the native kernels, differentiable once: `conv3d`, `layer`, and `stack`, the whole network.

What `stack` saves. With h[i] the output of convolution i, u[i] = scale * h[i] + shift its normalisation and a[i] the
activation of u[i], only h[i] is ever stored: the next convolution applies normalisation and activation while it reads,
and the statistics are summed while it writes. Backwards, one kernel per layer reads d loss / d u[i], h[i] and h[i-1],
and writes d loss / d u[i-1] with its normalisation sums and the weight gradient. Normalisation needs no pass of its
own: the gradient at h[i] is ``a * du[i] + b * h[i] + c`` with three numbers per channel (Ioffe and Szegedy 2015,
section 3). With ``keep`` above 1 only every keep-th h[i] is stored and the others are recomputed (Chen et al. 2016)
from the *saved* scale and shift: the statistics are taken once and running averages move once per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from computation.errors import ModelError
from computation.model.native import calls
from computation.model.native.calls import Gradients, Pre
from computation.model.native.loader import status
from computation.model.native.volumes import give, trim

Affine = tuple[Tensor, Tensor, Tensor, Tensor]

__all__ = ["NORMS", "Block", "Style", "class_sums", "conv3d", "keep_within", "layer", "obstacle", "stack"]

NORMS = ("none", "instance", "batch")


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
    if x.device.type != "cpu":
        return f"native kernels off: the input is on {x.device.type}"
    if x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return "native kernels off: they compute in float32 (and float64), not in mixed precision"
    if x.dim() != 5 or not x.numel():
        return "native kernels off: the input is not a non-empty (batch, channels, depth, height, width)"
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
    """Convolve, normalise and activate: one layer whose result is needed as such, say for dropout.

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
    _check(x, blocks, head, style)
    network = _Network(tuple(blocks), head, style)
    inputs = [x, *network.parameters()]
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)):
        found = network.run(x.detach(), _Tape(0))
        trim()
        return found
    result: Tensor = _Stack.apply(network, *inputs)  # type: ignore[no-untyped-call]
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
    if labels.dtype != torch.int64 or labels.shape != (scores.shape[0], *scores.shape[2:]):
        raise ModelError(f"scores {tuple(scores.shape)} need int64 labels of one per voxel, not {tuple(labels.shape)}")
    sums: Tensor = _ClassSums.apply(scores, labels)  # type: ignore[no-untyped-call]
    if int(sums[..., 2].sum()) != labels.numel():
        raise ModelError(f"a label is not one of the {scores.shape[1]} classes; import the labels again")
    return sums


def _check(x: Tensor, blocks: Sequence[Block], head: Block | None, style: Style) -> None:
    if style.norm not in NORMS or style.activation not in calls.ACTIVATIONS or style.keep < 1:
        raise ModelError(f"unknown layer style: norm {style.norm}, activation {style.activation}, keep {style.keep}")
    channels = x.shape[1]
    for block in [*blocks, *([head] if head else [])]:
        shape = tuple(block.weight.shape)
        if len(shape) != 5 or shape[1] != channels or shape[2:] not in ((1, 1, 1), (3, 3, 3)) or block.dilation < 1:
            raise ModelError(
                f"a convolution of weights {shape}, dilation {block.dilation} cannot follow {channels} channels"
            )
        if block.weight.dtype != x.dtype:
            raise ModelError(f"weights are {block.weight.dtype}, the input is {x.dtype}; use one type")
        channels = shape[0]


class _Tape:
    """What the forward pass leaves for backward: every `keep`-th convolution output, and how to read each."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.outputs: dict[int, Tensor] = {}
        self.pre: dict[int, Pre | None] = {}

    def put(self, index: int, output: Tensor, pre: Pre | None, last: bool) -> None:
        if self.keep:
            self.pre[index] = pre
            if last or (index + 1) % self.keep == 0:
                self.outputs[index] = output

    def drop(self, index: int, volume: Tensor) -> None:
        """Give back a convolution's output that is not stored; the input of the network, -1, belongs to the caller."""
        if index >= 0 and index not in self.outputs:
            give(volume)


@dataclass(frozen=True)
class _Network:
    blocks: tuple[Block, ...]
    head: Block | None
    style: Style

    def parameters(self) -> list[Tensor | None]:
        """Return weight, bias, gamma, beta of each block, then weight and bias of the head."""
        flat = [t for b in self.blocks for t in (b.weight, b.bias, b.gamma, b.beta)]
        return [*flat, self.head.weight, self.head.bias] if self.head else flat

    def run(self, x: Tensor, tape: _Tape) -> Tensor:
        """Compute the output, leaving on the tape what backward needs."""
        source, pre, last = x, None, len(self.blocks) - 1
        for i in range(last + 1):
            hidden = i < last or not self.bare
            output, moments = self._convolve(i, source, pre, hidden=hidden, moments=self._takes_moments())
            pre = self._normalisation(self.blocks[i], output, moments)
            if hidden:
                tape.put(i, output, pre, i == last)
            tape.drop(i - 1, source)
            source = output
        if self.bare:
            return source
        trim()  # the result needs room of its own
        result = self._end(source, pre)
        tape.drop(last, source)
        return result

    @property
    def bare(self) -> bool:
        """Whether the last convolution's output is the result itself: nobody may store or reuse it."""
        return self.head is None and self.style.norm == "none" and self.style.activation == "none"

    def _end(self, source: Tensor, pre: Pre | None) -> Tensor:
        if self.head is None:
            return source if pre is None else calls.pointwise(source, pre)
        weight, bias, dilation = self.head.weight, self.head.bias, self.head.dilation
        return calls.forward(source, pre, weight, bias, dilation, moments=False)[0]

    def recompute(self, x: Tensor, tape: _Tape, index: int) -> Tensor:
        """Return the output of one convolution (the input for -1), from the nearest stored one before it."""
        start = max((i for i in tape.outputs if i <= index), default=-1)
        source = x if start < 0 else tape.outputs[start]
        for i in range(start + 1, index + 1):
            output, _ = self._convolve(i, source, tape.pre.get(i - 1), hidden=True, moments=False)
            tape.drop(i - 1, source)
            source = output
        return source

    def _convolve(
        self, i: int, source: Tensor, pre: Pre | None, *, hidden: bool, moments: bool
    ) -> tuple[Tensor, Tensor | None]:
        block = self.blocks[i]
        return calls.forward(source, pre, block.weight, block.bias, block.dilation, moments=moments, hidden=hidden)

    def differentiate(self, grad: Tensor, x: Tensor, tape: _Tape, needs: list[bool]) -> list[Tensor | None]:
        """Return the gradients of x and of `parameters()`; `needs` says which are wanted."""
        last, early = len(self.blocks) - 1, self.style.keep > 1
        output = grad if self.bare else self.recompute(x, tape, last)
        here = self._differentiate_end(grad, output, tape.pre.get(last), needs)
        found = [here.weight, here.bias] if self.head else []
        for i in range(last, -1, -1):
            block, pre, wanted = self.blocks[i], tape.pre.get(i), needs[1 + 4 * i : 5 + 4 * i]
            norm = _norm_gradients(pre, here, wanted)
            affine = self._affine(pre, here, output)
            tape.outputs.pop(i, None)
            if early:  # so that h[i] goes before h[i-1] is recomputed
                if affine:
                    calls.affine_(here.input, *affine)
                affine = None
                _give_unless(grad, output)
            before = self.recompute(x, tape, i - 1)
            wants = (i > 0 or needs[0], wanted[0], wanted[1] and not self._takes_moments())
            there = calls.backward(
                here.input, affine, before, tape.pre.get(i - 1), block.weight, block.dilation, needs=wants, hidden=i > 0
            )
            found = [there.weight, self._bias_gradient(there, wanted[1], i), *norm, *found]
            _give_unless(grad, here.input, *(() if early else (output,)))
            here, output = there, before
        return [here.input if needs[0] else None, *found]

    def _differentiate_end(self, grad: Tensor, output: Tensor, pre: Pre | None, needs: list[bool]) -> Gradients:
        if self.head:
            wants = (True, needs[-2], needs[-1])
            return calls.backward(grad, None, output, pre, self.head.weight, self.head.dilation, needs=wants)
        if pre is None:
            return Gradients(grad, None, None, output.new_empty(0))
        return calls.pointwise_backward(grad, output, pre)

    def _takes_moments(self) -> bool:
        return self.style.norm == "instance" or (self.style.norm == "batch" and self.style.training)

    def _normalisation(self, block: Block, output: Tensor, moments: Tensor | None) -> Pre | None:
        """Turn statistics into a scale and a shift, all in float64; the running averages move here and only here."""
        style, shape = self.style, output.shape[:2]
        if style.norm == "none":
            if style.activation == "none":
                return None
            return Pre(output.new_ones(shape), output.new_zeros(shape), None, None, style.activation)
        mean, var = _running(block) if moments is None else _statistics(moments, output, style, block)
        rstd = (var + style.eps).rsqrt()
        scale = rstd if block.gamma is None else rstd * block.gamma.detach()
        shift = -mean * scale if block.beta is None else block.beta.detach() - mean * scale
        scale, shift, mean, rstd = (t.expand(shape).to(output.dtype).contiguous() for t in (scale, shift, mean, rstd))
        return Pre(scale, shift, mean, rstd, style.activation)

    def _bias_gradient(self, here: Gradients, wanted: bool, index: int) -> Tensor | None:
        """Return exact zeros where the statistics of the batch are subtracted: the bias has no effect there."""
        if wanted and self._takes_moments():
            return torch.zeros(self.blocks[index].weight.shape[0], dtype=torch.float64)
        return here.bias

    def _affine(self, pre: Pre | None, here: Gradients, output: Tensor) -> Affine | None:
        """Return (h, a, b, c) with d loss / d h = a * du + b * h + c, or None when it is du itself."""
        if pre is None or pre.mean is None or pre.rstd is None:
            return None
        zero = torch.zeros_like(pre.scale)
        if not self._takes_moments():
            return output, pre.scale, zero, zero
        count = output[0, 0].numel() * (output.shape[0] if self.style.norm == "batch" else 1)
        sums = here.sums.sum(0, keepdim=True).expand_as(here.sums) if self.style.norm == "batch" else here.sums
        plain, centred = (sums / count).unbind(-1)
        scale = pre.scale.double()
        slope = -scale * pre.rstd.double() * centred
        constant = -scale * plain - slope * pre.mean.double()
        return output, pre.scale, slope.to(output.dtype), constant.to(output.dtype)


def _norm_gradients(pre: Pre | None, here: Gradients, wanted: list[bool]) -> list[Tensor | None]:
    if pre is None or pre.mean is None:
        return [None, None]
    beta, gamma = here.sums.sum(0).unbind(-1)
    return [gamma if wanted[2] else None, beta if wanted[3] else None]


def _give_unless(grad: Tensor, *volumes: Tensor) -> None:
    for volume in volumes:
        if volume is not grad:  # which belongs to the caller
            give(volume)


def _running(block: Block) -> tuple[Tensor, Tensor]:
    if block.running_mean is None or block.running_var is None:
        raise ModelError("batch normalisation outside training needs running averages, and the model has none")
    return block.running_mean.double()[None], block.running_var.double()[None]


def _statistics(moments: Tensor, output: Tensor, style: Style, block: Block) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, (batch or 1, channels) float64, and move the running averages."""
    mean, squares = moments.unbind(-1)
    count = output[0, 0].numel()
    if style.norm == "instance":
        return mean, squares / count
    centre = mean.mean(0, keepdim=True)
    squares = (squares + count * (mean - centre) ** 2).sum(0, keepdim=True)
    count *= output.shape[0]
    if count < 2:
        raise ModelError("batch normalisation needs more than one voxel per channel; use larger sub-volumes")
    if block.running_mean is not None and block.running_var is not None:
        block.running_mean.lerp_(centre[0].to(block.running_mean.dtype), style.momentum)
        block.running_var.lerp_((squares[0] / (count - 1)).to(block.running_var.dtype), style.momentum)
    return centre, squares / count


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, network: _Network, x: Tensor, *parameters: Tensor | None) -> Tensor:
        ctx.network, ctx.tape = network, _Tape(network.style.keep)
        ctx.save_for_backward(x, *parameters)
        found = network.run(x, ctx.tape)
        trim()
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        found = ctx.network.differentiate(grad, x, ctx.tape, list(ctx.needs_input_grad[1:]))
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
