"""MeshNet: dilated 3x3x3 convolutions of one width, then a 1x1x1 convolution to the classes; no pooling, no skips.

Fedorov et al. 2016, "End-to-end learning of brain tissue segmentation from imperfect labeling", arXiv 1612.00940.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from computation.model import native
from computation.model.architecture import Architecture
from computation.model.convolution import arrange, convolve

__all__ = [
    "BatchNorm",
    "ChannelDropout",
    "Convolution",
    "Layer",
    "MeshNet",
    "build",
    "parameter_count",
    "receptive_field",
]

_KERNEL: Final = 3

#: Bytes of layer outputs that a training step may store, and the recomputation for which the next one is not tried.
_STORED: Final = (2 << 30, 3 << 30, 7 << 30)
_CHEAP: Final = 3


class Convolution(nn.Module):
    """A convolution that keeps the volume's shape.

    Its parameters start at zero: `build` draws them, and no global random stream is touched.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Side of the cubic kernel; odd.
    dilation : int
        Voxels between its taps.
    bias : bool
        Whether a constant is added to each channel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, *, bias: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, volume: Tensor) -> Tensor:
        """Convolve `(N, inputs, D, H, W)` to `(N, outputs, D, H, W)`."""
        return convolve(volume, self.weight, self.bias, self.dilation)


class BatchNorm(nn.BatchNorm3d):
    """Batch normalisation that can be frozen: it then uses its stored statistics in training too, and keeps them."""

    frozen = False

    def train(self, mode: bool = True) -> BatchNorm:
        """Set training mode, except for a frozen layer."""
        super().train(mode and not self.frozen)
        return self


class ChannelDropout(nn.Module):
    """Drops whole channels in training and scales the others so that the mean stays (Tompson et al. 2015).

    The mask is drawn on the CPU from this layer's own stream, so it is the same on every device.

    Parameters
    ----------
    share : float
        Probability of dropping a channel.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.stream = torch.Generator()

    def forward(self, volume: Tensor) -> Tensor:
        """Drop channels of `(N, C, D, H, W)`."""
        if not self.training:
            return volume
        return volume * self.factors(volume.shape[0], volume.shape[1])[..., None, None, None].to(volume)

    def factors(self, samples: int, channels: int) -> Tensor:
        """Draw what each channel of each sample is multiplied by, shape `(samples, channels)`, float64."""
        kept = torch.rand((samples, channels), generator=self.stream, dtype=torch.float64) >= self.share
        return kept / (1 - self.share)


_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}


class Layer(nn.Module):
    """One hidden layer: convolution, normalisation, activation, dropout.

    Parameters
    ----------
    architecture : Architecture
        Of the whole network.
    inputs : int
        Channels that come in.
    dilation : int
        Of this layer.
    """

    def __init__(self, architecture: Architecture, inputs: int, dilation: int) -> None:
        super().__init__()
        width = architecture.width
        self.conv = Convolution(inputs, width, _KERNEL, dilation, bias=architecture.norm != "group")
        self.norm = _norm(architecture.norm, width)
        self.activation = _ACTIVATIONS[architecture.activation]()
        self.dropout = ChannelDropout(architecture.dropout) if architecture.dropout else nn.Identity()

    def forward(self, volume: Tensor) -> Tensor:
        """Map `(N, inputs, D, H, W)` to `(N, width, D, H, W)`."""
        result: Tensor = self.dropout(self.activation(self.norm(self.conv(volume))))
        return result

    def block(self) -> native.Block:
        """Return the tensors of this layer, as the native kernels take them."""
        conv, norm = self.conv, self.norm
        return native.Block(
            conv.weight,
            conv.bias,
            getattr(norm, "weight", None),
            getattr(norm, "bias", None),
            getattr(norm, "running_mean", None),
            getattr(norm, "running_var", None),
            conv.dilation,
        )


def _keep(images: Tensor, architecture: Architecture) -> int:
    """Store every layer's output for the backward pass where they are small, and otherwise recompute some of them."""
    size = (images.numel(), architecture.width, len(architecture.dilations))
    choices = [native.keep_within(memory, *size) for memory in _STORED]
    return next((keep for keep in choices if keep <= _CHEAP), choices[-1])


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        return BatchNorm(width)
    return nn.GroupNorm(width, width) if kind == "group" else nn.Identity()


class MeshNet(nn.Module):
    """The network, with zero weights until `build` or a vector fills it.

    Parameters
    ----------
    architecture : Architecture
        Its shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        inputs = [1] + [architecture.width] * (len(architecture.dilations) - 1)
        self.layers = nn.ModuleList(
            Layer(architecture, channels, dilation)
            for channels, dilation in zip(inputs, architecture.dilations, strict=True)
        )
        self.head = Convolution(architecture.width, architecture.classes, 1, 1, bias=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of each voxel.

        Parameters
        ----------
        images : Tensor
            Shape `(N, 1, D, H, W)`, normalised intensities.

        Returns
        -------
        Tensor
            Shape `(N, classes, D, H, W)`, before the softmax.
        """
        if not native.obstacle(images):
            if not self._drops():
                return self._native(images, self._blocks())
            if not self._mixes(images):
                return self._native_dropping(images)
        volume = arrange(images)
        for layer in self.layers:
            volume = layer(volume)
        scores: Tensor = self.head(volume)
        return scores

    @property
    def _hidden(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _drops(self) -> bool:
        return self.training and self.architecture.dropout > 0

    def _mixes(self, images: Tensor) -> bool:
        """Tell whether samples meet in a batch's statistics, so that they cannot be computed one by one."""
        norm = self._hidden[0].norm
        return len(images) > 1 and isinstance(norm, BatchNorm) and norm.training

    def _native_dropping(self, images: Tensor) -> Tensor:
        """Drop channels in the weights that read them, which are then another network for each sample."""
        width = self.architecture.width
        drawn = (layer.dropout for layer in self._hidden)
        factors = [dropout.factors(len(images), width) for dropout in drawn if isinstance(dropout, ChannelDropout)]
        return torch.cat(
            [
                self._native(image[None], self._blocks([factor[sample] for factor in factors]))
                for sample, image in enumerate(images)
            ]
        )

    def _blocks(self, factors: Sequence[Tensor] = ()) -> list[native.Block]:
        """Return the tensors of all layers and the head, with each layer's channels multiplied by its factors."""
        blocks = [*(layer.block() for layer in self._hidden), native.Block(self.head.weight, self.head.bias)]
        for reader, factor in enumerate(factors, 1):
            weight = blocks[reader].weight
            blocks[reader] = replace(blocks[reader], weight=weight * factor[:, None, None, None].to(weight))
        return blocks

    def _native(self, images: Tensor, blocks: list[native.Block]) -> Tensor:
        """Compute on the native kernels: the same network in one fused pass over the layers."""
        norm = self._hidden[0].norm
        style = native.Style(
            norm={"group": "instance"}.get(self.architecture.norm, self.architecture.norm),
            activation=self.architecture.activation,
            training=norm.training,
            momentum=getattr(norm, "momentum", 0.1),
            eps=getattr(norm, "eps", 1e-5),
            keep=_keep(images, self.architecture),
        )
        return native.stack(images, blocks[:-1], blocks[-1], style)

    def freeze_statistics(self) -> None:
        """Make every batch normalisation use its stored statistics and never update them."""
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.frozen = True
                module.train(module.training)

    def seed_dropout(self, seed: int) -> None:
        """Set the random streams of dropout, one for each layer; without dropout this does nothing."""
        for position, module in enumerate(self.modules()):
            if isinstance(module, ChannelDropout):
                module.stream.manual_seed((seed + position) % 2**63)


def build(architecture: Architecture, seed: int, dtype: torch.dtype = torch.float32) -> MeshNet:
    """Make a network with seeded weights: Kaiming normal with fan-out for weights, zero for biases.

    The draws are made in float64 from a stream of their own, so a float32 and a float64 network of one seed start from
    the same numbers, and no global random state is touched.

    Parameters
    ----------
    architecture : Architecture
        Its shape.
    seed : int
        Non-negative.
    dtype : torch.dtype
        Of parameters and buffers.

    Returns
    -------
    MeshNet
        On the CPU, in training mode.
    """
    model = MeshNet(architecture)
    stream = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Convolution):
            draw = torch.empty(module.weight.shape, dtype=torch.float64)
            nn.init.kaiming_normal_(draw, mode="fan_out", nonlinearity="relu", generator=stream)
            module.weight = nn.Parameter(draw.to(dtype))
    return model.to(dtype)


def receptive_field(architecture: Architecture) -> int:
    """Return the side, in voxels, of the cube of input that one voxel of output depends on."""
    return 1 + (_KERNEL - 1) * sum(architecture.dilations)


def parameter_count(model: nn.Module) -> int:
    """Return the number of values that training changes; batch-norm statistics are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())
