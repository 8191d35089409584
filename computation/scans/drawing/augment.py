"""Random changes of a batch: what a scanner, or a head's position, may do to an image without changing its anatomy.

In the order in which they are applied: left-right flip, affine (rotation, scale, shift; labels by nearest neighbour),
blur, bias field, gamma, noise. Each is drawn for itself, per sub-volume, from a seed alone, so that a resumed run draws
the same. The background stays exactly 0, which is where the normalised image says that there is no head.

A few lines of torch do the same as a library's transforms, need no further dependency and no change of layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from computation.errors import SettingsError

__all__ = ["NONE", "USUAL", "Augmentation", "augment"]


@dataclass(frozen=True)
class Augmentation:
    """How likely and how strong each change is; a strength of 0 leaves it out.

    Attributes
    ----------
    flip : float
        Chance of exchanging left and right: the first axis of every grid that `conform` makes. Not for classes that
        are on one side only.
    affine : float
        Chance of an affine change.
    degrees, scale, shift : float
        Its largest rotation about each axis in degrees, change of size as a share, and shift in voxels.
    gamma : float
        Contrast exponent from exp(-gamma) to exp(gamma).
    bias : float
        Largest relative change of brightness across the sub-volume; it varies smoothly.
    noise : float
        Largest standard deviation of Gaussian noise, in normalised units.
    blur : float
        Largest standard deviation of Gaussian blur, in voxels.
    """

    flip: float = 0.0
    affine: float = 0.0
    degrees: float = 10.0
    scale: float = 0.1
    shift: float = 4.0
    gamma: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.flip, self.affine, self.scale, self.bias)
        if not all(0 <= share <= 1 for share in shares):
            raise SettingsError(f"chances, scale and bias of an augmentation are from 0 to 1, found {shares}")
        if not all(0 <= size <= 90 for size in (self.degrees, self.shift, self.gamma, self.noise, self.blur)):
            raise SettingsError("strengths of an augmentation are from 0 to 90")


#: Changes nothing.
NONE = Augmentation()

#: Light: what the first pilot of this project trained with, and no more.
USUAL = Augmentation(flip=0.5, affine=0.5, gamma=0.2, bias=0.2, noise=0.03, blur=0.5)


def augment(
    images: torch.Tensor, labels: torch.Tensor, how: Augmentation, seeds: list[tuple[int, ...]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change each sub-volume of a batch at random.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (N, 1, D, H, W)
        Normalised; not modified.
    labels : torch.Tensor of int64, shape (N, D, H, W)
        Class numbers; not modified.
    how : Augmentation
        What may happen.
    seeds : list of tuple of int
        One per sub-volume; equal seeds give equal changes.

    Returns
    -------
    images, labels : torch.Tensor
        Of the same shapes.
    """
    if how == NONE:
        return images, labels
    generators = [np.random.default_rng(list(seed)) for seed in seeds]
    triples = zip(images, labels, generators, strict=True)
    pairs = [_one(image, label, how, draw) for image, label, draw in triples]
    return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])


def _one(
    image: torch.Tensor, label: torch.Tensor, how: Augmentation, draw: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    # Every number is drawn whether or not it is used: leaving one change out does not alter the others.
    flip, affine = draw.random(2)
    matrix = _matrix(how, draw, image.shape[1:])
    gamma, noise, blur = draw.uniform((-how.gamma, 0, 0), (how.gamma, how.noise, how.blur))
    bias = draw.uniform(-how.bias, how.bias, (4, 4, 4))
    if flip < how.flip:
        image, label = image.flip(1), label.flip(0)
    if affine < how.affine:
        image, label = _moved(image, matrix, "bilinear"), _moved(label[None].float(), matrix, "nearest")[0].long()
    head = image != 0
    changed = _blurred(image, blur) if blur > 0.1 else image
    changed = changed * (1 + _smooth(bias, image.shape[1:])) if how.bias > 0 else changed
    changed = changed.clamp_min(0) ** math.exp(gamma) if how.gamma > 0 else changed
    if noise > 0:
        changed = changed + noise * torch.from_numpy(draw.standard_normal(tuple(image.shape), np.float32))
    return torch.where(head, changed, 0.0).to(torch.float32), label


def _matrix(how: Augmentation, draw: np.random.Generator, shape: torch.Size) -> torch.Tensor:
    """Return the (3, 4) matrix of `grid_sample`: output to input places, from -1 to 1, axes (k, j, i)."""
    angles = np.deg2rad(draw.uniform(-how.degrees, how.degrees, 3))
    size, shift = draw.uniform(1 - how.scale, 1 + how.scale), draw.uniform(-how.shift, how.shift, 3)
    sides = np.array(shape[::-1], float)
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        step = np.eye(3)
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step[[one, one, two, two], [one, two, one, two]] = [
            math.cos(angle),
            -math.sin(angle),
            math.sin(angle),
            math.cos(angle),
        ]
        turn = turn @ step
    # Rotation is in voxels; the unit cube of grid_sample has another scale along each axis.
    linear = np.diag(1 / sides) @ (turn / size) @ np.diag(sides)
    return torch.from_numpy(np.column_stack([linear, 2 * shift / sides]).astype(np.float32))


def _moved(volume: torch.Tensor, matrix: torch.Tensor, mode: str) -> torch.Tensor:
    grid = functional.affine_grid(matrix[None], [1, *volume.shape], align_corners=False)
    return functional.grid_sample(volume[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]


def _smooth(knots: np.ndarray[tuple[int, ...], np.dtype[np.float64]], shape: torch.Size) -> torch.Tensor:
    field = torch.from_numpy(knots.astype(np.float32))[None, None]
    return functional.interpolate(field, tuple(shape), mode="trilinear", align_corners=True)[0]


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = max(1, math.ceil(2 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    blurred = image[None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = len(kernel), reach
        blurred = functional.conv3d(blurred, kernel.reshape(shape), padding=padding)
    return blurred[0]
