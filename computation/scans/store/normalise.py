"""Intensity normalisation of a scan: constants found once at import, applied whenever a sub-volume is read.

All schemes are one line, `(value - low) / (high - low)`, with the background kept at exactly 0:

- ``quantile`` (default): low and high are the 2 % and 98 % quantiles of the non-zero voxels; clipped to 0..1. Robust
  against the bright vessels and fat that stretch min-max; the range MeshNet was trained with.
- ``min-max``: the smallest and largest non-zero voxel; clipped to 0..1.
- ``z-score``: low is the mean of the non-zero voxels and high the mean plus one standard deviation; not clipped.
- ``none``: the value itself.

NumPy's quantile has no limit on the number of voxels (torch's refuses more than 2^24).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import ImportScanError

__all__ = ["SCHEMES", "apply", "constants"]

SCHEMES = ("quantile", "min-max", "z-score", "none")

_CLIPPED = ("quantile", "min-max")
_QUANTILES = (0.02, 0.98)


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
        raise ImportScanError("the image is empty or constant inside the head; leave this scan out")
    return low, high


def _span(head: NDArray[Any], scheme: str) -> tuple[float, float]:
    if scheme == "quantile":
        low, high = (float(value) for value in np.quantile(head, _QUANTILES))
        # A nearly binary image can have equal quantiles; its extremes still tell its values apart.
        return (low, high) if high > low else (float(head.min()), float(head.max()))
    if scheme == "min-max":
        return float(head.min()), float(head.max())
    if scheme == "z-score":
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
