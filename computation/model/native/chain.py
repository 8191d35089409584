"""The chain of convolutions, run forwards and backwards on the kernels, and the tape between the two.

What the tape holds. With h[i] the output of convolution i, u[i] = scale * h[i] + shift its normalisation and a[i] the
activation of u[i], only h[i] is ever stored: the next convolution applies normalisation and activation while it reads,
and the statistics are summed while it writes. Backwards, one kernel per layer reads d loss / d u[i], h[i] and h[i-1],
and writes d loss / d u[i-1] with its normalisation sums and the weight gradient. With ``keep`` above 1 only every
keep-th h[i] is stored and the others are recomputed (Chen et al. 2016, arXiv 1604.06174) from the *saved* scale and
shift: the statistics are taken once and running averages move once per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from computation.model.native import calls
from computation.model.native.blocks import Block, Style
from computation.model.native.calls import Gradients, Pre
from computation.model.native.normalisation import affine, normalise, parameter_gradients, takes_moments
from computation.model.native.volumes import give, trim

__all__ = ["Chain", "Tape"]


class Tape:
    """What the forward pass leaves for backward: every `keep`-th convolution output, and how to read each."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.outputs: dict[int, Tensor] = {}
        self.pre: dict[int, Pre | None] = {}

    def put(self, index: int, output: Tensor, pre: Pre | None, last: bool) -> None:
        """Note how an output is read, and the output itself if it is stored: the last one always is."""
        if self.keep:
            self.pre[index] = pre
            if last or (index + 1) % self.keep == 0:
                self.outputs[index] = output

    def drop(self, index: int, volume: Tensor) -> None:
        """Give back a convolution's output that is not stored; the input of the network, -1, belongs to the caller."""
        if index >= 0 and index not in self.outputs:
            give(volume)


@dataclass(frozen=True)
class Chain:
    """A network ready to run.

    Parameters
    ----------
    blocks : tuple of Block
        At least one.
    head : Block or None
        A last plain convolution.
    style : Style
        Kind of normalisation and activation.
    """

    blocks: tuple[Block, ...]
    head: Block | None
    style: Style

    def parameters(self) -> list[Tensor | None]:
        """Return weight, bias, gamma, beta of each block, then weight and bias of the head."""
        flat = [t for b in self.blocks for t in (b.weight, b.bias, b.gamma, b.beta)]
        return [*flat, self.head.weight, self.head.bias] if self.head else flat

    def run(self, x: Tensor, tape: Tape) -> Tensor:
        """Compute the output, leaving on the tape what backward needs."""
        source, pre, last = x, None, len(self.blocks) - 1
        for i in range(last + 1):
            hidden = i < last or not self.bare
            output, moments = self._convolve(i, source, pre, hidden=hidden, moments=takes_moments(self.style))
            pre = normalise(self.style, self.blocks[i], output, moments)
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

    def recompute(self, x: Tensor, tape: Tape, index: int) -> Tensor:
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

    def differentiate(self, grad: Tensor, x: Tensor, tape: Tape, needs: list[bool]) -> list[Tensor | None]:
        """Return the gradients of x and of `parameters()`; `needs` says which are wanted."""
        last, early = len(self.blocks) - 1, self.style.keep > 1
        output = grad if self.bare else self.recompute(x, tape, last)
        here = self._differentiate_end(grad, output, tape.pre.get(last), needs)
        found = [here.weight, here.bias] if self.head else []
        for i in range(last, -1, -1):
            block, pre, wanted = self.blocks[i], tape.pre.get(i), needs[1 + 4 * i : 5 + 4 * i]
            norm = parameter_gradients(pre, here, wanted)
            at_output = affine(self.style, pre, here, output)
            tape.outputs.pop(i, None)
            if early:  # so that h[i] goes before h[i-1] is recomputed
                if at_output:
                    calls.affine_(here.input, *at_output)
                at_output = None
                _give_unless(grad, output)
            before = self.recompute(x, tape, i - 1)
            wants = (i > 0 or needs[0], wanted[0], wanted[1] and not takes_moments(self.style))
            of, given = (block.weight, block.dilation), (here.input, at_output, before, tape.pre.get(i - 1))
            there = calls.backward(*given, *of, needs=wants, hidden=i > 0)
            found = [there.weight, self._bias_gradient(there, wanted[1], i), *norm, *found]
            _give_unless(grad, here.input, *(() if early else (output,)))
            here, output = there, before
        return [here.input if needs[0] else None, *found]

    def _differentiate_end(self, grad: Tensor, output: Tensor, pre: Pre | None, needs: list[bool]) -> Gradients:
        if self.head:
            wants = (True, needs[-2], needs[-1])
            weight, dilation = self.head.weight, self.head.dilation
            return calls.backward(grad, None, output, pre, weight, dilation, needs=wants, hidden=True)
        if pre is None:
            return Gradients(grad, None, None, output.new_empty(0))
        return calls.pointwise_backward(grad, output, pre)

    def _bias_gradient(self, here: Gradients, wanted: bool, index: int) -> Tensor | None:
        """Return exact zeros where the statistics of the batch are subtracted: the bias has no effect there."""
        if wanted and takes_moments(self.style):
            return torch.zeros(self.blocks[index].weight.shape[0], dtype=torch.float64)
        return here.bias


def _give_unless(grad: Tensor, *volumes: Tensor) -> None:
    for volume in volumes:
        if volume is not grad:  # which belongs to the caller
            give(volume)
