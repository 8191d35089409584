"""Affines: nibabel's functions, with types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

__all__ = ["apart", "axes", "in_millimetres", "moved", "rescaled", "spacing"]

# These nibabel functions are not annotated.
_affines: Any = affines
_orientations: Any = orientations


def spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the millimetres between voxels along the three axes."""
    return np.asarray(_affines.voxel_sizes(affine), np.float64)


def axes(affine: NDArray[np.float64]) -> str:
    """Name where the axes lead, by the nearest directions of the body: ``RAS``, ``LIA`` and the like."""
    return "".join(code or "?" for code in _orientations.aff2axcodes(affine))


def in_millimetres(affine: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    """Return an affine whose places are in millimetres, of one whose unit is so many millimetres long."""
    return affine if unit == 1 else np.diag([unit, unit, unit, 1.0]) @ affine


def moved(affine: NDArray[np.float64], points: NDArray[Any]) -> NDArray[np.float64]:
    """Return the places, in millimetres, of points (N, 3) given in voxels."""
    return np.asarray(_affines.apply_affine(affine, points), np.float64)


def rescaled(
    affine: NDArray[np.float64], shape: Sequence[int], sizes: Sequence[float], grid: Sequence[int]
) -> NDArray[np.float64]:
    """Return the affine of a grid with the same directions and central voxel, other voxel sizes and another shape."""
    return np.asarray(_affines.rescale_affine(affine, shape, sizes, grid), np.float64)


def apart(one: NDArray[np.float64], other: NDArray[np.float64], shape: Sequence[int]) -> float:
    """Return how far apart, in millimetres, two affines put the corners of a grid, at most."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(shape) - 1)
    return float(np.linalg.norm(moved(one, corners) - moved(other, corners), axis=1).max())
