"""Whether a scan was stripped of its skull: everything outside the brain is 0, or there is signal.

A network that learnt from one kind calls skull, eyes and neck of the other brain, or misses its rim. The rule in order:

1. Signal is what exceeds a five-hundredth of the scan's bright voxels: half a level of 8 bits.
2. A scan whose signal fills five sixths of its own box has no zeros around a head: its air is noise. (A brain fills
   about half of its box.)
3. With labels of a whole brain (at least a quarter of the signal): stripped if at most 15 % of the signal lies more
   than about 10 mm from them. A strip leaves the meninges, and may leave a brainstem that has no label.
4. Without: stripped if there are at most 2.5 litres of signal. Hardly a skull holds two (normative intracranial volumes
   of 502 healthy adults: Kruggel, NeuroImage 30, 2006), and smoothing to coarser voxels adds a tenth to the rim; an
   adult head in air of zeros has 3 litres or more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["is_stripped"]

_FAINT, _BRIGHT = 1 / 500, 0.98
_FILLED = 5 / 6
_WHOLE_BRAIN, _BEYOND, _NEAR_MM = 0.25, 0.15, 10.0
_MOST_ML = 2500.0


def is_stripped(
    image: NDArray[Any], spacing: tuple[float, float, float], label: NDArray[Any] | None = None
) -> bool | None:
    """Tell whether everything outside the brain is 0; the rule is at the top of this module.

    Parameters
    ----------
    image : ndarray, 3-D
        The conformed scan.
    spacing : tuple of float
        Millimetres between its voxels.
    label : ndarray, optional
        Its classes, 0 outside.

    Returns
    -------
    bool or None
        None if there is no signal at all.
    """
    strength = np.abs(image.astype(np.float32))
    bright = strength[strength > 0]
    if not bright.size:
        return None
    signal = strength > _FAINT * float(np.quantile(bright, _BRIGHT))
    (box,) = ndimage.find_objects(signal.astype(np.uint8))
    count = int(np.count_nonzero(signal))
    if count >= _FILLED * math.prod(side.stop - side.start for side in box):
        return False
    if label is not None and np.count_nonzero(label[box]) >= _WHOLE_BRAIN * count:
        return _beyond(signal[box], label[box] != 0, spacing) <= _BEYOND * count
    return count * math.prod(spacing) / 1000 <= _MOST_ML


def _beyond(signal: NDArray[np.bool_], labelled: NDArray[np.bool_], spacing: tuple[float, float, float]) -> int:
    """Count voxels of signal far from labels: neither in the same block of 10 mm nor in one beside it."""
    sides = [max(1, round(_NEAR_MM / size)) for size in spacing]
    near = ndimage.binary_dilation(_blocks(labelled, sides) > 0, np.ones((3, 3, 3)))
    return int(_blocks(signal, sides)[~near].sum())


def _blocks(mask: NDArray[np.bool_], sides: list[int]) -> NDArray[np.int64]:
    """Count what is true in each block."""
    counts: NDArray[Any] = mask
    for axis, side in enumerate(sides):
        counts = np.add.reduceat(counts, np.arange(0, mask.shape[axis], side), axis, dtype=np.int64)
    return counts
