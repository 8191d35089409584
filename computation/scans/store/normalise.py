"""Intensity normalisation of a scan: constants found once at import, applied whenever a sub-volume is read.

All schemes are one line, `(value - low) / (high - low)`, with the background kept at exactly 0:

- ``quantile`` (default): low and high are the 2 % and 98 % quantiles of the non-zero voxels; clipped to 0..1. Robust
  against the bright vessels and fat that stretch min-max; the range MeshNet was trained with.
- ``min-max``: the smallest and largest non-zero voxel that is no outlier; clipped to 0..1.
- ``z-score``: low is the mean of the non-zero voxels that are no outliers and high the mean plus one standard
  deviation; not clipped.
- ``none``: the value itself.

An outlier is a voxel further than ten times the distance between the 0.1 % and the 99.9 % quantile of the non-zero
voxels from either: a broken voxel, a spike, a mark burnt into the image. No tissue, vessel or fat is that far off.

NumPy's quantile has no limit on the number of voxels (torch's refuses more than 2^24).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import ImportScanError

__all__ = ["SCHEMES", "apply", "check", "constants", "ordinary"]

SCHEMES = ("quantile", "min-max", "z-score", "none")

_CLIPPED = ("quantile", "min-max")
_QUANTILES = (0.02, 0.98)

#: Between which quantiles the bulk of a head is, and how many times their distance from them outliers begin.
_BULK, _REACH = (0.001, 0.999), 10

_CONSTANT = "the image is empty or constant inside the head; leave this scan out"


def check(voxels: NDArray[Any]) -> None:
    """Refuse an image in which nothing tells tissue apart.

    Parameters
    ----------
    voxels : ndarray
        As they were read; NaN and infinity do not count.

    Raises
    ------
    ImportScanError
        If all voxels that are not zero have one value.
    """
    low, high = math.inf, -math.inf
    for plane in voxels:
        head = plane[(plane != 0) & np.isfinite(plane)]
        if head.size:
            low, high = min(low, float(head.min())), max(high, float(head.max()))
        if high > low:
            return
    raise ImportScanError(_CONSTANT)


def ordinary(head: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value that is no outlier; the rule is at the top of this module.

    Parameters
    ----------
    head : ndarray, 1-D
        The voxels that are not zero, at least one; finite.
    """
    low, high = float(head.min()), float(head.max())
    inner, outer = (float(value) for value in np.quantile(head, _BULK))
    reach = _REACH * (outer - inner)
    if reach == 0 or (inner - reach <= low and high <= outer + reach):
        return low, high
    kept = head[(head >= inner - reach) & (head <= outer + reach)]
    return float(kept.min()), float(kept.max())


def constants(image: NDArray[Any], scheme: str) -> tuple[float, float]:
    """Find the constants of one scan.

    Parameters
    ----------
    image : ndarray
        The whole image, background 0.
    scheme : str
        One of `SCHEMES`.

    Returns
    -------
    low, high : float
        In the image's units; `high > low`.

    Raises
    ------
    ImportScanError
        If the image is empty or constant, so that nothing tells tissue apart.
    """
    if scheme not in SCHEMES:
        raise ImportScanError(f"normalisation {scheme!r} is unknown; choose one of {', '.join(SCHEMES)}")
    head = image[image != 0]
    low, high = _span(head, scheme) if head.size else (0.0, 0.0)
    if not high > low:
        raise ImportScanError(_CONSTANT)
    return low, high


def _span(head: NDArray[Any], scheme: str) -> tuple[float, float]:
    if scheme == "quantile":
        low, high = (float(value) for value in np.quantile(head, _QUANTILES))
        # A nearly binary image can have equal quantiles; its extremes still tell its values apart.
        return (low, high) if high > low else (float(head.min()), float(head.max()))
    if scheme == "min-max":
        return ordinary(head)
    if scheme == "z-score":
        low, high = ordinary(head)
        head = head[(head >= low) & (head <= high)]
        mean = float(head.mean(dtype=np.float64))
        return mean, mean + float(head.std(dtype=np.float64))
    return 0.0, 1.0


def apply(stored: NDArray[Any], slope: float, low: float, high: float, scheme: str) -> NDArray[np.float32]:
    """Normalise voxels as they are stored.

    Parameters
    ----------
    stored : ndarray
        Stored voxels; the image's value is `stored * slope`.
    slope, low, high : float
        The scan's constants.
    scheme : str
        One of `SCHEMES`.

    Returns
    -------
    ndarray of float32
        Same shape. Elementary operations only, so that every machine computes the same bits.
    """
    scale = np.float32(slope / (high - low))
    values: NDArray[np.float32] = stored.astype(np.float32) * scale
    values -= np.float32(low / (high - low))
    if scheme in _CLIPPED:
        np.clip(values, 0.0, 1.0, out=values)
    # With low >= 0 clipping has already sent the background to 0.
    if low < 0 or scheme not in _CLIPPED:
        values[stored == 0] = 0.0
    return values
