"""CIFAR-10 from an archive of JPEG files, read by the Pillow that matplotlib brings; or pictures made from a seed."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CROP = slice(2, 30)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of 28 x 28 in three colours, kept as bytes.

    Attributes
    ----------
    images : numpy.ndarray
        Shape `(n, 3, 28, 28)`, uint8.
    labels : numpy.ndarray
        Shape `(n,)`, int64.
    mean, spread : numpy.ndarray
        Of each colour, shape `(3, 1, 1)`, float32: those of the training pictures.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, places: int | NDArray[np.int64] | slice) -> tuple[Tensor, Tensor]:
        """Return normalised pictures and their classes."""
        return torch.from_numpy((self.images[places] - self.mean) / self.spread), torch.as_tensor(self.labels[places])

    def part(self, places: NDArray[np.int64]) -> Pictures:
        """Return some of them."""
        return Pictures(self.images[places], self.labels[places], self.mean, self.spread)


def cifar10(folder: Path) -> tuple[Pictures, Pictures]:
    """Read `cifar10-jpeg.zip`, the centre of each picture: those to train, and those to test."""
    with zipfile.ZipFile(folder / "cifar10-jpeg.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        train, test = (
            _read(archive, [name for name in names if name.startswith(part)], classes) for part in ("train", "test")
        )
    return _normal(*train), _like(_normal(*train), *test)


def _read(
    archive: zipfile.ZipFile, names: list[str], classes: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from PIL import Image

    images = np.empty((len(names), 3, 28, 28), np.uint8)
    for place, name in enumerate(names):
        with Image.open(io.BytesIO(archive.read(name))) as picture:
            images[place] = np.asarray(picture.convert("RGB"))[_CROP, _CROP].transpose(2, 0, 1)
    return images, np.array([classes.index(name.split("/")[1]) for name in names], np.int64)


def made(count: int, seed: int) -> tuple[Pictures, Pictures]:
    """Make pictures to train on, and a fifth as many to test on: a pattern for each of ten classes, and noise."""
    chance = np.random.default_rng(seed)
    patterns = chance.integers(60, 196, size=(10, 3, 7, 7)).repeat(4, 2).repeat(4, 3)

    def some(size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = np.arange(size, dtype=np.int64) % 10
        noise = chance.integers(-60, 60, size=(size, 3, 28, 28))
        return (patterns[labels] + noise).astype(np.uint8), labels

    train = _normal(*some(count))
    return train, _like(train, *some(-(-count // 5)))


def _normal(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Pictures:
    means = [float(images[:, colour].mean()) for colour in range(3)]
    spreads = [float(images[:, colour].std()) for colour in range(3)]
    mean, spread = (np.array(values, np.float32)[:, None, None] for values in (means, spreads))
    return Pictures(images, labels, mean, spread)


def _like(train: Pictures, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Pictures:
    return Pictures(images, labels, train.mean, train.spread)


def stratified(labels: NDArray[np.int64], parts: int, seed: int) -> list[NDArray[np.int64]]:
    """Share out each class alike, by chance; sizes differ by at most one for each class.

    What one class leaves over goes to other parts than what the class before left over.
    """
    chance, shares, first = np.random.default_rng(seed), [list[NDArray[np.int64]]() for _ in range(parts)], 0
    for label in np.unique(labels):
        places = chance.permutation(np.flatnonzero(labels == label))
        for offset in range(parts):
            shares[(first + offset) % parts].append(places[offset::parts])
        first += len(places) % parts
    return [np.sort(np.concatenate(share)) for share in shares]
