"""How many grey levels are left of a head once it is stored and normalised: an image of a few is no longer one."""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from computation.errors import ImportScanError
from computation.scans.making import headers
from computation.scans.making.conform import Conformed
from computation.scans.store import normalise

__all__ = ["check"]

#: Fewer levels than this are told, so many or fewer refused if the file had at least twice as many.
_FEW, _HOPELESS = 32, 8

#: Of a head of fewer voxels than this on its grid, no level is missed.
_ENOUGH = 1000

#: Steps into which the range of a normalisation is cut: what a network can tell apart of 0 to 1, as in eight bits.
_STEPS = 255

#: The middle of the head, by its values: a handful of voxels must not pass for levels of tissue.
_MIDDLE = (0.02, 0.98)

#: How many voxels are looked at first.
_SAMPLE = 100_000


def check(
    image: SpatialImage, scan: Conformed, stored: NDArray[Any], slope: float, low: float, high: float
) -> tuple[str, ...]:
    """Refuse or tell of a head that has few grey levels, whatever the cause, and tell of outliers.

    Parameters
    ----------
    image : SpatialImage
        As it was read.
    scan : Conformed
        What became of it.
    stored : ndarray
        The image as it is stored.
    slope, low, high : float
        The value is ``stored * slope``, normalised ``(value - low) / (high - low)``.

    Returns
    -------
    tuple of str
        Sentences for the person who imports it.

    Raises
    ------
    ImportScanError
        If hardly a level is left of an image that had more.
    """
    left = _count(np.rint(stored[stored != 0] * (slope * _STEPS / (high - low))))
    source = np.asanyarray(image.dataobj)
    head = source[(source != 0) & np.isfinite(source)]
    before = _count(head)
    enough = head.size * _kept(image, scan) >= _ENOUGH
    if enough and left <= _HOPELESS and 2 * left <= before:
        text = f"only {left} grey levels of the head would be left: extreme values set the scale"
        raise ImportScanError(f"{text}; clip them in the image, or leave this scan out")
    found = _outliers(head)
    if before < _FEW:
        found.append(f"the image has only {before} grey levels in the head; is it a mask, a label map or a phantom?")
    elif enough and left < _FEW:
        found.append(f"only {left} grey levels of the head are left; look for extreme values in the image")
    return tuple(found)


def _kept(image: SpatialImage, scan: Conformed) -> float:
    """Return how many voxels of the new grid there are, about, for each of the head's."""
    old, new = (abs(float(np.linalg.det(matrix[:3, :3]))) for matrix in (headers.affine(image), np.array(scan.affine)))
    return old / new * (1 - scan.cut)


def _outliers(head: NDArray[Any]) -> list[str]:
    low, high = normalise.ordinary(head)
    beyond = head[(head < low) | (head > high)]
    if not beyond.size:
        return []
    furthest = float(beyond[np.abs(beyond.astype(np.float64)).argmax()])
    return [f"{beyond.size} voxels lie far beyond all others, up to {furthest:.3g}; they set no scale"]


def _count(head: NDArray[Any]) -> int:
    """Count the different values in the middle of a head; a sample does if it has enough of them."""
    found = _distinct(head[:: max(1, head.size // _SAMPLE)])
    return found if found >= _FEW or head.size < 2 * _SAMPLE else _distinct(head)


def _distinct(head: NDArray[Any]) -> int:
    if not head.size:
        return 0
    low, high = np.quantile(head, _MIDDLE)
    return int(np.unique(head[(head >= low) & (head <= high)]).size)
