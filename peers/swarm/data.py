"""A node's own data, from a file of arrays: slices to learn from, and what is held out to measure accuracy by."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from computation.errors import PeersError
from peers.slices import Kind, encode

__all__ = ["Data", "digits", "read"]

_NAMES = ("inputs", "targets", "held_inputs", "held_targets")


@dataclass(frozen=True, eq=False)
class Data:
    """What a node brings.

    Attributes
    ----------
    kind : Kind
        Of its slices.
    slices : tuple of bytes
        To learn from.
    held_out : tuple of torch.Tensor
        Inputs and targets by which accuracy is measured.
    """

    kind: Kind
    slices: tuple[bytes, ...]
    held_out: tuple[Tensor, Tensor]


def read(path: Path, samples: int) -> Data:
    """Read arrays `inputs`, `targets`, `held_inputs` and `held_targets` from an `.npz`, never a pickle.

    Parameters
    ----------
    path : Path
        Inputs are float32 or uint8 of shape (samples, ...), targets whole numbers from 0.
    samples : int
        In each slice; the last has what is left.

    Raises
    ------
    PeersError
        If the file cannot be read or an array is missing or of another form.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _NAMES}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        wanted = f"wanted an .npz with arrays {', '.join(_NAMES)}"
        raise PeersError(f"the data cannot be read; {wanted}", f"{path}: {error!r}") from None
    return _sliced(arrays, samples)


def _sliced(arrays: dict[str, NDArray[Any]], samples: int) -> Data:
    inputs, targets, held, held_targets = (arrays[name] for name in _NAMES)
    if inputs.dtype not in (np.float32, np.uint8) or held.dtype != inputs.dtype:
        raise PeersError(f"inputs are {inputs.dtype} and {held.dtype}; wanted float32 or uint8, both the same")
    whole = all(array.dtype.kind in "iu" and array.ndim == 1 for array in (targets, held_targets))
    if not whole or len(targets) != len(inputs) or len(held) != len(held_targets) or inputs.shape[1:] != held.shape[1:]:
        raise PeersError("inputs and targets do not fit together; wanted one whole number for each input")
    if samples < 1 or not len(held_targets):
        raise PeersError(f"slices of {samples} samples and {len(held_targets)} held out; wanted 1 at least of both")
    classes = 1 + int(max(targets.max(initial=0), held_targets.max()))
    slices = tuple(
        encode(inputs[first : first + samples], targets[first : first + samples])
        for first in range(0, len(targets), samples)
    )
    scale = np.float32(255) if held.dtype == np.uint8 else np.float32(1)
    held_out = torch.from_numpy(held.astype(np.float32) / scale), torch.from_numpy(held_targets.astype(np.int64))
    return Data(Kind(tuple(int(side) for side in inputs.shape[1:]), classes), slices, held_out)


def digits(samples: int, node: int, of: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Make data that everybody may have: 8 x 8 pictures of ten noisy patterns, one node's share of them.

    Parameters
    ----------
    samples : int
        Of all nodes together; as many again, up to 1,000, are held out, the same ones at each.
    node, of : int
        Which share of how many, from 0.
    seed : int
        Of patterns and noise.
    """
    chance = np.random.default_rng(seed)
    patterns = chance.normal(size=(10, 8, 8))
    held = min(samples, 1000)
    targets = chance.integers(0, 10, samples + held)
    inputs = (patterns[targets] + 2.5 * chance.normal(size=(samples + held, 8, 8))).astype(np.float32)
    mine = slice(node, samples, of)
    return dict(zip(_NAMES, (inputs[mine], targets[mine], inputs[samples:], targets[samples:]), strict=True))
