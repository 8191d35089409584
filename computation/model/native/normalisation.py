"""Normalisation without passes of its own: statistics become a scale and a shift, gradients three numbers per channel.

With h a convolution's output, u = scale * h + shift and du = d loss / d u, the gradient at h is ``a * du + b * h + c``
(Ioffe and Szegedy 2015, arXiv 1502.03167, section 3), whose sums the kernels took on the way. All in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from computation.errors import ModelError
from computation.model.native.blocks import Block, Style
from computation.model.native.calls import Gradients, Pre

Affine = tuple[Tensor, Tensor, Tensor, Tensor]

__all__ = ["Affine", "affine", "normalise", "parameter_gradients", "takes_moments"]


def takes_moments(style: Style) -> bool:
    """Return whether the statistics come from the data, not from running averages."""
    return style.norm == "instance" or (style.norm == "batch" and style.training)


def normalise(style: Style, block: Block, output: Tensor, moments: Tensor | None) -> Pre | None:
    """Turn statistics into a scale and a shift; the running averages move here and only here.

    Parameters
    ----------
    style, block
        Kind of normalisation and activation; the affine part and the running averages.
    output : Tensor
        (batch, channels, D, H, W), what the statistics are of.
    moments : Tensor or None
        (batch, channels, 2), mean and sum of squared deviations; None: the running averages are used.

    Returns
    -------
    Pre or None
        None where there is neither normalisation nor activation.
    """
    shape = output.shape[:2]
    if style.norm == "none":
        if style.activation == "none":
            return None
        return Pre(output.new_ones(shape), output.new_zeros(shape), None, None, style.activation)
    mean, var = _running(block) if moments is None else _statistics(moments, output, style, block)
    rstd = (var + style.eps).rsqrt()
    scale = rstd if block.gamma is None else rstd * block.gamma.detach()
    shift = -mean * scale if block.beta is None else block.beta.detach() - mean * scale
    rows = torch.stack((scale, shift, mean, rstd)).to(output.dtype).expand(4, *shape).contiguous()
    return Pre(rows[0], rows[1], rows[2], rows[3], style.activation)


def affine(style: Style, pre: Pre | None, here: Gradients, output: Tensor) -> Affine | None:
    """Return (h, a, b, c) with d loss / d h = a * du + b * h + c, or None when it is du itself."""
    if pre is None or pre.mean is None or pre.rstd is None:
        return None
    if not takes_moments(style):
        zero = torch.zeros_like(pre.scale)
        return output, pre.scale, zero, zero
    count = output[0, 0].numel() * (output.shape[0] if style.norm == "batch" else 1)
    sums = here.sums.sum(0, keepdim=True).expand_as(here.sums) if style.norm == "batch" else here.sums
    plain, centred = (sums / count).unbind(-1)
    scale = pre.scale.double()
    slope = -scale * pre.rstd.double() * centred
    constant = -scale * plain - slope * pre.mean.double()
    slope, constant = torch.stack((slope, constant)).to(output.dtype)
    return output, pre.scale, slope, constant


def parameter_gradients(pre: Pre | None, here: Gradients, wanted: list[bool]) -> list[Tensor | None]:
    """Return the gradients of gamma and beta; `wanted` holds whether weight, bias, gamma and beta need one."""
    if pre is None or pre.mean is None:
        return [None, None]
    beta, gamma = here.sums.sum(0).unbind(-1)
    return [gamma if wanted[2] else None, beta if wanted[3] else None]


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
