"""Data for the examples: made from a seed, so that nothing need be fetched, or MNIST from a folder."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset

from computation.errors import PeersError

__all__ = ["digits", "mnist", "slices"]

#: Of MNIST's test half, by index: so many to train, the others to test.
_TO_TRAIN = 8_000
_MOST_BYTES = 1 << 26


def digits(count: int, seed: int, classes: int = 10) -> TensorDataset:
    """Make pictures of 28 x 28 in so many classes: a smooth pattern for each class, and noise.

    Parameters
    ----------
    count : int
        Pictures.
    seed : int
        Of the pictures; the patterns are the same for all seeds.
    classes : int
        Patterns.

    Returns
    -------
    TensorDataset
        Pictures of shape `(1, 28, 28)`, float32, and their class, int64.
    """
    patterns = np.random.default_rng(0).normal(size=(classes, 7, 7)).repeat(4, 1).repeat(4, 2)
    chance = np.random.default_rng([seed, 1])
    labels = chance.integers(classes, size=count)
    pictures = patterns[labels] + chance.normal(size=(count, 28, 28))
    return TensorDataset(torch.from_numpy(pictures[:, None]).float(), torch.from_numpy(labels))


def slices(count: int, side: int, seed: int, channels: int = 97) -> TensorDataset:
    """Make slices of many channels, and one that follows from them: something for a regression.

    Returns
    -------
    TensorDataset
        Slices of shape `(channels, side, side)` and `(1, side, side)`, float32, of mean 0 and variance 1.
    """
    mixture = np.random.default_rng(0).normal(size=channels) / math.sqrt(channels)
    chance = np.random.default_rng([seed, 2])
    coarse = chance.normal(size=(count, channels, -(-side // 4), -(-side // 4)))
    images = coarse.repeat(4, 2).repeat(4, 3)[:, :, :side, :side] + 0.1 * chance.normal(
        size=(count, channels, side, side)
    )
    target = np.tanh(np.einsum("c,nchw->nhw", mixture, images))[:, None]
    return TensorDataset(_normal(images), _normal(target))


def _normal(values: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy((values - values.mean()) / values.std()).float()


def mnist(folder: Path) -> tuple[TensorDataset, TensorDataset]:
    """Read MNIST's test half, 10,000 digits: the first 8,000 to train, the others to test.

    Parameters
    ----------
    folder : Path
        With `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`.

    Returns
    -------
    TensorDataset, TensorDataset
        Pictures of shape `(1, 28, 28)`, float32 from 0 to 1, and their class, int64.

    Raises
    ------
    PeersError
        If a file is missing or is not of that format.
    """
    images = _idx(folder / "t10k-images-idx3-ubyte.gz", 3)
    labels = _idx(folder / "t10k-labels-idx1-ubyte.gz", 1)
    if len(images) != len(labels):
        raise PeersError(f"there are {len(images)} digits and {len(labels)} labels; wanted as many")
    pictures, classes = torch.from_numpy(images[:, None] / np.float32(255)), torch.from_numpy(labels.astype(np.int64))
    parts = slice(None, _TO_TRAIN), slice(_TO_TRAIN, None)
    train, test = (TensorDataset(pictures[part], classes[part]) for part in parts)
    return train, test


def _idx(path: Path, sides: int) -> npt.NDArray[np.uint8]:
    """Read an array of bytes in the IDX format: magic number, big-endian lengths, values."""
    try:
        with gzip.open(path) as file:
            blob = file.read(_MOST_BYTES)
    except (OSError, EOFError) as error:
        raise PeersError(
            f"{path.name} cannot be read; wanted MNIST's file of that name in the folder", str(error)
        ) from error
    head = 4 + 4 * sides
    shape = tuple(np.frombuffer(blob[4:head], ">u4").tolist())
    if blob[:4] != bytes((0, 0, 8, sides)) or len(blob) != head + math.prod(shape):
        raise PeersError(f"{path.name} is not in the IDX format, or was cut off; wanted bytes in {sides} dimensions")
    return np.frombuffer(blob, np.uint8, offset=head).reshape(shape)
