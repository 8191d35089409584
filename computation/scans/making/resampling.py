"""Reading a volume at the voxel centres of another grid, however that grid lies: the one resampler of this room.

1. If every new voxel centre is an old one, voxels are copied: permuted, flipped, cropped or padded with 0, exactly.
2. Labels take the voxel that a new centre lies in (nearest neighbour).
3. Images are interpolated linearly. Unless told otherwise they are first smoothed along each axis along which the new
   voxels are longer, by a Gaussian with sigma = sqrt((k^2 - 1) / (8 ln 2)) old voxels, k the length of a new voxel in
   old ones (Cardoso et al., "Scale factor point spread function matching", MICCAI 2015). Neither can overshoot.

Outside the old grid everything is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from computation.scans.store.blocks import Triple

__all__ = ["is_copy", "outside", "resample", "steps_between"]

#: Directions and spacings closer to whole than this are whole, and offsets closer than that: rounding in an affine.
_WHOLE_STEP, _WHOLE_PLACE = 1e-4, 1e-3


def resample(
    voxels: NDArray[Any],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    shape: Triple,
    *,
    order: int,
    smooth: bool = True,
    rim: bool = False,
) -> NDArray[Any]:
    """Read a volume at the places of another grid; the rules are listed at the top of this module.

    Parameters
    ----------
    voxels : ndarray, 3-D
        The volume.
    old, new : ndarray, shape (4, 4)
        Affines of the volume and of the wanted grid.
    shape : tuple of int
        The wanted grid.
    order : int
        0 for labels, 1 for images.
    smooth : bool
        Whether images are smoothed along axes that become coarser.
    rim : bool
        Whether labels reach half a voxel beyond the outermost centres of the old grid, where their voxels end. SciPy,
        and with it nibabel and FastSurfer, conform without.

    Returns
    -------
    ndarray
        The type of `voxels` for order 0 and when nothing has to be interpolated, else float32.
    """
    steps = steps_between(old, new)
    if is_copy(steps):
        return _copied(voxels, np.rint(steps).astype(int), shape)
    source = voxels if order == 0 else np.asarray(voxels, np.float32)
    if order and smooth and max(sigma := _sigma(steps)) > 0:
        source = ndimage.gaussian_filter(source, sigma, mode="constant")
    # Where axes do not mix, SciPy goes along them one after the other, which is several times faster.
    turned = bool((steps[:3, :3] != np.diag(np.diag(steps)[:3])).any())
    matrix = steps[:3, :3] if turned else np.diag(steps)[:3]
    mode = "grid-constant" if rim else "constant"
    read = ndimage.affine_transform(source, matrix, steps[:3, 3], shape, order=order, prefilter=False, mode=mode)
    return np.asarray(read)


def steps_between(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix from voxels of the new grid to voxels of the old one, freed from rounding."""
    steps = np.asarray(np.linalg.solve(old, new), np.float64)
    whole = np.rint(steps)
    return np.where(np.abs(steps - whole) < 1e-9, whole, steps)


def is_copy(steps: NDArray[np.float64]) -> bool:
    """Tell whether every new voxel centre is an old one, but for rounding in the affines."""
    away, turns = np.abs(steps - np.rint(steps)), np.abs(np.rint(steps[:3, :3]))
    whole = away[:3, :3].max() < _WHOLE_STEP and away[:3, 3].max() < _WHOLE_PLACE
    return bool(whole and (turns.sum(0) == 1).all() and (turns.sum(1) == 1).all())


def outside(voxels: NDArray[Any], old: NDArray[np.float64], new: NDArray[np.float64], shape: Triple) -> float:
    """Return the share of the voxels that are not zero whose centre is in no voxel of the new grid."""
    steps = steps_between(new, old)
    total = lost = 0
    j, k = (np.arange(length, dtype=np.float64) for length in voxels.shape[1:])
    for i, plane in enumerate(voxels):
        head = plane != 0
        if not (count := int(np.count_nonzero(head))):
            continue
        away = np.zeros(plane.shape, bool)
        for (a, b, c, d), side in zip(steps[:3], shape, strict=True):
            place = (a * i + d) + (b * j)[:, None] + c * k
            away |= (place < -0.5) | (place >= side - 0.5)
        total, lost = total + count, lost + int(np.count_nonzero(head & away))
    return lost / max(1, total)


def _sigma(steps: NDArray[np.float64]) -> list[float]:
    lengths = np.linalg.norm(steps[:3, :3], axis=1)
    # A turned grid of the same spacing has lengths of 1 but for rounding.
    return [
        math.sqrt(size * size - 1) / math.sqrt(8 * math.log(2)) if size > 1 + _WHOLE_STEP else 0.0 for size in lengths
    ]


def _copied(voxels: NDArray[Any], steps: NDArray[np.int_], shape: Triple) -> NDArray[Any]:
    axes = np.abs(steps[:3, :3]).argmax(0)
    signs, places = steps[axes, np.arange(3)], steps[axes, 3]
    view = voxels.transpose(axes)[tuple(slice(None, None, int(sign)) for sign in signs)]
    # New voxel x is old voxel p + x, or p - x on an axis that runs backwards: x + (n - 1 - p) of the flipped view.
    offset = np.where(signs > 0, places, np.array(view.shape) - 1 - places)
    out = np.zeros(shape, voxels.dtype)
    low, high = np.maximum(offset, 0), np.minimum(offset + np.array(shape), view.shape)
    if (high > low).all():
        here = tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))
        out[here] = view[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return out
