"""A slice of a data set as bytes, and a PyTorch module that learns from slices, whoever made them.

Layout, little-endian: 8 bytes of magic, "CXSLIC" and the version; one for the type of the inputs, 1 float32 and 2 whole
numbers from 0 to 255 that stand for 0 to 1; one for the number of axes of one input; two of zero; the number of samples
in 4; each side of one input in 4; all inputs; each sample's class in 2. There is nothing else in it and no pickle.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from computation.errors import PayloadError
from peers.batches import Shuffled
from peers.learners import Loss, ModuleLearner
from peers.peer import Worked

__all__ = ["Kind", "SliceLearner", "decode", "encode"]

_MAGIC = b"CXSLIC\x00\x01"
_HEAD = struct.Struct("<8sBBHI")
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("u1")}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_CLASS = np.dtype("<u2")
_MOST_AXES = 5
#: Samples that are classified at once.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Kind:
    """What a swarm's slices hold.

    Attributes
    ----------
    shape : tuple of int
        Of one input.
    classes : int
        Targets are from 0 to one less.
    samples : int
        At most, in one slice.
    """

    shape: tuple[int, ...]
    classes: int
    samples: int = 1 << 20


def encode(inputs: NDArray[Any], targets: NDArray[Any]) -> bytes:
    """Return some samples as a slice.

    Parameters
    ----------
    inputs : numpy.ndarray, shape (samples, ...)
        float32, or uint8 for 0 to 1 in 255 steps.
    targets : numpy.ndarray, shape (samples,)
        Classes from 0 to 65,535.

    Raises
    ------
    PayloadError
        If they are something else.
    """
    dtype = inputs.dtype.newbyteorder("<")
    if dtype not in _CODES or len(inputs) != len(targets) or not 1 <= inputs.ndim - 1 <= _MOST_AXES:
        raise PayloadError(
            f"a slice of {len(inputs)} inputs of {inputs.dtype} and {len(targets)} targets; wanted as many of both, "
            f"inputs of float32 or uint8 and of 1 to {_MOST_AXES} axes"
        )
    head = _HEAD.pack(_MAGIC, _CODES[dtype], inputs.ndim - 1, 0, len(inputs))
    sides = struct.pack(f"<{inputs.ndim - 1}I", *inputs.shape[1:])
    return head + sides + np.ascontiguousarray(inputs, dtype).tobytes() + targets.astype(_CLASS).tobytes()


def decode(content: bytes, kind: Kind) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read a slice that somebody else made.

    Returns
    -------
    inputs : numpy.ndarray, shape (samples, *kind.shape)
        Finite.
    targets : numpy.ndarray, shape (samples,)
        From 0 to `kind.classes - 1`.

    Raises
    ------
    PayloadError
        If it is no slice, of another kind, or not finite.
    """
    dtype, samples = _head(content, kind)
    first = _HEAD.size + 4 * len(kind.shape)
    end = first + samples * math.prod(kind.shape) * dtype.itemsize
    if len(content) != end + samples * _CLASS.itemsize:
        raise PayloadError(f"the slice has {len(content)} bytes; wanted {end + samples * _CLASS.itemsize}")
    inputs = np.frombuffer(content[first:end], dtype).astype(np.float32).reshape(samples, *kind.shape)
    targets = np.frombuffer(content[end:], _CLASS).astype(np.int64)
    if not np.isfinite(inputs).all() or int(targets.max()) >= kind.classes:
        raise PayloadError(f"the slice holds NaN, infinity or a class above {kind.classes - 1}; wanted neither")
    return inputs / np.float32(255) if dtype.kind == "u" else inputs, targets


def _head(content: bytes, kind: Kind) -> tuple[np.dtype[Any], int]:
    """Return the inputs' type and the number of samples, all of the head being as the reader expects."""
    wanted = _HEAD.size + 4 * len(kind.shape)
    if len(content) < wanted:
        raise PayloadError(f"the slice has {len(content)} bytes; wanted {wanted} and more")
    magic, code, axes, zero, samples = _HEAD.unpack_from(content)
    if magic != _MAGIC or code not in _TYPES or zero or axes != len(kind.shape):
        raise PayloadError("what came is no slice, or one of another format; wanted one of this version")
    sides = struct.unpack_from(f"<{axes}I", content, _HEAD.size)
    if sides != kind.shape or not 1 <= samples <= kind.samples:
        raise PayloadError(f"the slice has {samples} samples of {sides}; wanted 1 to {kind.samples} of {kind.shape}")
    return _TYPES[code], samples


class SliceLearner(ModuleLearner):
    """A module that learns from one slice at a time.

    Parameters
    ----------
    model, optimiser, loss, name, seed
        As `ModuleLearner`'s.
    kind : Kind
        Of all slices.
    own : sequence of bytes
        Slices that this peer brings; more may be added while it learns.
    held_out : tuple of torch.Tensor
        Inputs and targets by which accuracy is measured; not learned from.
    size : int
        Samples in a batch.
    shares : bool
        Whether the member lets its own slices go to others.
    people : bool
        Whether the slices are of people: then they never go to others, whatever anybody says.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        kind: Kind,
        own: Sequence[bytes],
        held_out: tuple[Tensor, Tensor],
        *,
        size: int = 64,
        shares: bool = False,
        people: bool = True,
        name: str = "",
        seed: int = 0,
    ) -> None:
        self.kind, self.own, self.held_out, self.size = kind, list(own), held_out, size
        self.shares, self.people = shares, people
        self._samples: list[tuple[Tensor, Tensor]] = []
        super().__init__(model, optimiser, loss, self._batches, name=name, seed=seed)

    def _batches(self, round: int) -> Iterator[tuple[Tensor, Tensor]]:
        return Shuffled(self._samples, self.size, self.seed, self.name)(round)

    def check(self, content: bytes) -> None:
        """Refuse what is no slice of this swarm; raises `PayloadError`."""
        decode(content, self.kind)

    def study(self, content: bytes, cycle: int) -> Worked:
        """Go through one slice once, in an order of this cycle's; raises what `local_steps` raises."""
        inputs, targets = (torch.from_numpy(array) for array in decode(content, self.kind))
        self._samples = list(zip(inputs.to(next(self.model.parameters()).dtype), targets, strict=True))
        result = self.local_steps(cycle)
        return Worked(result.batches, result.samples, result.loss)

    def accuracy(self) -> float:
        """Return the share of what was held out whose class the model finds; 0 where nothing was."""
        inputs, targets = self.held_out
        if not len(targets):
            return 0.0
        self.model.eval()
        with torch.no_grad():
            found = [self.model(part.to(self.device)).argmax(1).cpu() for part in torch.split(inputs, _AT_ONCE)]
        return float((torch.cat(found) == targets).double().mean())
