"""Conforming as FreeSurfer does (`mri_convert --conform`), for models and tools that expect its images.

The steps, in order, after the published description in FastSurfer's Python version (Reuter, `conform.py`):

1. The grid has the directions L, I, A, whatever the obliquity of the image, and its voxel number `side / 2` lies where
   voxel number `side / 2` of the image lies. (An odd number of voxels thus moves by half of one, as in FreeSurfer.)
2. `resampling.resample`, without smoothing.
3. Images that are not uint8 are scaled: from a histogram of the *input* with 1,000 bins between its extremes, the lower
   bound is its minimum and the upper bound is two bins below the first at which at most a thousandth of the voxels that
   are not zero is left; these become 0 and 255. What lies outside is cut off, and rounded to the nearest whole number.
   What is 0 after interpolation stays 0. Outliers (`normalise.ordinary`) are not in the histogram, which has no room
   for both them and a head: FreeSurfer's and FastSurfer's would leave two grey levels of it. Without any, nothing
   differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.scans.store.blocks import Triple
from computation.scans.store.normalise import ordinary

__all__ = ["grid", "robust"]

#: Columns: the directions of the axes in RAS+ millimetres.
_DIRECTIONS = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

_BINS, _SHARE, _TOP = 1000, 0.001, 255.0


def grid(
    affine: NDArray[np.float64], shape: Triple, spacing: NDArray[np.float64], sides: Triple
) -> NDArray[np.float64]:
    """Return the affine of the conformed grid; step 1."""
    centre = (affine @ np.array([*(np.array(shape) / 2), 1.0]))[:3]
    new = np.eye(4)
    new[:3, :3] = _DIRECTIONS * spacing
    new[:3, 3] = centre - new[:3, :3] @ (np.array(sides) / 2)
    return new


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


def _bounds(source: NDArray[Any]) -> tuple[float, float]:
    low, high = float(source.min()), float(source.max())
    if (head := source[source != 0]).size and (usual := ordinary(head)) != (float(head.min()), float(head.max())):
        source = source[(source == 0) | ((source >= usual[0]) & (source <= usual[1]))]
        low, high = float(source.min()), float(source.max())
    counts, edges = np.histogram(source, _BINS, (low, high))
    below = np.concatenate([[0], np.cumsum(counts)])
    cutoff = source.size - int(_SHARE * np.count_nonzero(source))
    first = int(np.flatnonzero(below >= cutoff)[0])
    # An image of a few values may have its cutoff in the first bins; its maximum is then the bound.
    return low, float(edges[first - 2]) if first >= 2 else high
