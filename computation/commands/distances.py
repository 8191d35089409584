"""Overlap, surface distance and volume of two label maps, class by class.

Surface distances come from SciPy's exact Euclidean distance transform. The one light package for them,
`surface-distance` 0.1, was last released for NumPy 1 and fails under NumPy 2 as soon as one mask is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from computation.training.metrics import Counts, dice

__all__ = ["ClassScore", "compare", "hausdorff"]


@dataclass(frozen=True)
class ClassScore:
    """One class of one scan; `None` is what is not defined because the class is missing.

    Attributes
    ----------
    dice : float or None
        None if the class is in neither map.
    hausdorff95 : float or None
        Millimetres; None if the class is missing in either map.
    truth_ml, predicted_ml : float
        Volumes.
    """

    dice: float | None
    hausdorff95: float | None
    truth_ml: float
    predicted_ml: float

    @property
    def difference_ml(self) -> float:
        """Predicted minus true volume."""
        return self.predicted_ml - self.truth_ml

    @property
    def difference_percent(self) -> float | None:
        """The same in percent of the true volume; None where that is zero."""
        return 100 * self.difference_ml / self.truth_ml if self.truth_ml else None


def compare(
    predicted: NDArray[Any], truth: NDArray[Any], spacing: tuple[float, float, float], counts: Counts
) -> tuple[ClassScore, ...]:
    """Compare two label maps.

    Parameters
    ----------
    predicted, truth : numpy.ndarray of integers
        Equal shapes.
    spacing : tuple of float
        Millimetres between voxels.
    counts : Counts
        Of the two maps.

    Returns
    -------
    tuple of ClassScore
        One for each class, the background included, whose surface distance is left out: it has no surface of its own.
    """
    voxel = float(np.prod(spacing)) / 1000
    far = [hausdorff(predicted == value, truth == value, spacing) for value in range(1, len(counts.truth))]
    return tuple(
        ClassScore(overlap, distance, int(true) * voxel, int(guess) * voxel)
        for overlap, distance, true, guess in zip(
            dice(counts), [None, *far], counts.truth, counts.predicted, strict=True
        )
    )


def hausdorff(
    one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, float, float], percent: float = 95.0
) -> float | None:
    """Return the percentile Hausdorff distance between the surfaces of two masks, in millimetres.

    A mask's surface is its voxels that have a face neighbour outside the mask or outside the volume. The distance from
    a surface voxel is that to the centre of the nearest surface voxel of the other mask; of the two directed
    percentiles the larger one is returned, as in DeepMind's `surface-distance` and in MONAI.

    Parameters
    ----------
    one, other : numpy.ndarray of bool
        Equal shapes.
    spacing : tuple of float
        Millimetres between voxels.
    percent : float
        100 is the Hausdorff distance itself.

    Returns
    -------
    float or None
        None if either mask is empty.
    """
    if not (one.any() and other.any()):
        return None
    box = ndimage.find_objects(np.asarray(one | other, np.uint8))[0]
    # One voxel of margin: outside the box there is nothing, so the distances within it are exact.
    first, second = (_surface(np.pad(mask[box], 1)) for mask in (one, other))
    there = ndimage.distance_transform_edt(~second, sampling=spacing)[first]
    back = ndimage.distance_transform_edt(~first, sampling=spacing)[second]
    return float(max(np.percentile(there, percent), np.percentile(back, percent)))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    surface: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask)
    return surface
