"""The one place that decides how a 3-D convolution is computed; a native operator replaces `convolve` here.

PyTorch's CPU convolution at MeshNet's widths is fastest with the channels innermost (`channels_last_3d`): at 64^3 and
width 8, forward and backward took 0.31 s against 0.53 s on two cores. In float64 it has no such kernel, and on a GPU
cuDNN chooses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["arrange", "convolve"]


def arrange(volume: Tensor) -> Tensor:
    """Lay a volume out as `convolve` likes it on its device.

    Parameters
    ----------
    volume : Tensor
        Shape `(N, C, D, H, W)`.

    Returns
    -------
    Tensor
        Equal values, same shape.
    """
    if volume.device.type == "cpu" and volume.dtype != torch.float64:
        # `contiguous` is not enough: one channel counts as contiguous in every layout, and the strides decide.
        return volume.to(memory_format=torch.channels_last_3d)
    return volume


def convolve(volume: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Convolve with zero padding so that the shape stays.

    Parameters
    ----------
    volume : Tensor
        Shape `(N, I, D, H, W)`.
    weight : Tensor
        Shape `(O, I, k, k, k)` with odd `k`.
    bias : Tensor or None
        Shape `(O,)`.
    dilation : int
        Voxels between the taps.

    Returns
    -------
    Tensor
        Shape `(N, O, D, H, W)`.
    """
    return F.conv3d(volume, weight, bias, padding=dilation * (weight.shape[-1] // 2), dilation=dilation)
