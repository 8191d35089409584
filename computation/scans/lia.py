"""Conforming as FreeSurfer does (`mri_convert --conform`), for models and tools that expect its images.

The steps, in order, after the published description in FastSurfer's Python version (Reuter, `conform.py`):

1. The grid has the directions L, I, A, whatever the obliquity of the image, and its voxel number `side / 2` lies where
   voxel number `side / 2` of the image lies. (An odd number of voxels thus moves by half of one, as in FreeSurfer.)
2. If every new voxel centre is an old voxel centre, voxels are copied. Otherwise the image is interpolated linearly,
   without smoothing, and labels take the nearest neighbour. Outside the old grid both are 0.
3. Images that are not uint8 are scaled: from a histogram of the *input* with 1,000 bins between its extremes, the lower
   bound is its minimum and the upper bound is two bins below the first at which at most a thousandth of the voxels that
   are not zero is left; these become 0 and 255. What lies outside is cut off, and rounded to the nearest whole number.
   What is 0 after interpolation stays 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from computation.scans.blocks import Triple

__all__ = ["grid", "outside", "resample", "robust"]

#: Columns: the directions of the axes in RAS+ millimetres.
_DIRECTIONS = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

_BINS, _SHARE, _TOP = 1000, 0.001, 255.0

#: Steps closer to whole than this are whole: rounding in the affine.
_WHOLE = 1e-3


def grid(
    affine: NDArray[np.float64], shape: Triple, spacing: NDArray[np.float64], sides: Triple
) -> NDArray[np.float64]:
    """Return the affine of the conformed grid; step 1."""
    centre = (affine @ np.array([*(np.array(shape) / 2), 1.0]))[:3]
    new = np.eye(4)
    new[:3, :3] = _DIRECTIONS * spacing
    new[:3, 3] = centre - new[:3, :3] @ (np.array(sides) / 2)
    return new


def resample(
    voxels: NDArray[Any], old: NDArray[np.float64], new: NDArray[np.float64], shape: Triple, *, order: int
) -> NDArray[Any]:
    """Read a volume at the places of any other grid; step 2.

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

    Returns
    -------
    ndarray
        The type of `voxels` for order 0 and when nothing has to be interpolated, else float32.
    """
    steps = np.linalg.solve(old, new)
    whole = np.rint(steps)
    if np.abs(steps - whole).max() < _WHOLE and np.abs(whole[:3, :3]).sum() == 3:
        steps, order = whole, 0
    source = voxels if order == 0 else np.asarray(voxels, np.float32)
    return np.asarray(
        ndimage.affine_transform(source, steps[:3, :3], steps[:3, 3], shape, order=order, prefilter=False)
    )


def robust(source: NDArray[Any], mapped: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale an interpolated image to 0..255 by the histogram of its source; step 3.

    Parameters
    ----------
    source : ndarray
        The image as it came.
    mapped : ndarray
        The image on the new grid.

    Returns
    -------
    ndarray of uint8
    """
    if source.dtype == np.uint8:
        return np.asarray(np.rint(mapped), np.uint8)
    low, high = _bounds(source)
    scaled = (np.asarray(mapped, np.float32) - np.float32(low)) * np.float32(_TOP / (high - low) if high > low else 1.0)
    return np.asarray(np.where(mapped == 0, 0, np.rint(np.clip(scaled, 0, _TOP))), dtype=np.uint8)


def outside(voxels: NDArray[Any], old: NDArray[np.float64], new: NDArray[np.float64], shape: Triple) -> float:
    """Return the share of the voxels that are not zero whose centre is in no voxel of the new grid."""
    steps = np.linalg.solve(new, old)
    total = lost = 0
    j, k = (np.arange(length, dtype=np.float64) for length in voxels.shape[1:])
    for i, plane in enumerate(voxels):
        away = np.zeros(plane.shape, bool)
        for (a, b, c, d), side in zip(steps[:3], shape, strict=True):
            place = a * i + b * j[:, None] + c * k + d
            away |= (place < -0.5) | (place >= side - 0.5)
        head = plane != 0
        total, lost = total + int(head.sum()), lost + int((head & away).sum())
    return lost / max(1, total)


def _bounds(source: NDArray[Any]) -> tuple[float, float]:
    low, high = float(source.min()), float(source.max())
    counts, edges = np.histogram(source, _BINS, (low, high))
    below = np.concatenate([[0], np.cumsum(counts)])
    cutoff = source.size - int(_SHARE * np.count_nonzero(source))
    first = int(np.flatnonzero(below >= cutoff)[0])
    # An image of a few values may have its cutoff in the first bins; its maximum is then the bound.
    return low, float(edges[first - 2]) if first >= 2 else high
