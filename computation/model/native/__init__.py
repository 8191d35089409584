"""MeshNet on the CPU: convolutions of few channels, far faster than the general ones, and the layers around them."""

from computation.model.native import calls
from computation.model.native.blocks import Block, Style
from computation.model.native.functional import class_sums, conv3d, keep_within, layer, obstacle, stack
from computation.model.native.loader import Status, status

__all__ = [
    "Block",
    "Status",
    "Style",
    "calls",
    "class_sums",
    "conv3d",
    "keep_within",
    "layer",
    "obstacle",
    "stack",
    "status",
]
