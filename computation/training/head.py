"""Where the head is in a normalised image: the box within which a network is asked at all.

Sub-volumes are drawn around foreground, so no network has learnt what air is; asked about it, it makes brain of it
(868,115 voxels of one head at 1 mm). Outside the box everything is background. The rule, in order:

1. The box of the voxels that are not exactly 0: what a mask, a skull strip or the conformed grid's rim left.
2. Within it, means over blocks of 4 x 4 x 4 voxels: the noise of raw air keeps an eighth of its spread.
3. Air is the darkest tenth of the blocks. The level of the head is AFNI's (Cox, Computers and Biomedical Research 1996;
   programs `3dClipLevel` and `3dAutomask`): the median of what is brighter than half of that very median, which does
   not depend on how much air there is. Head is what rises above the air by a fifth of the way to it; BET's threshold,
   a tenth of the robust range (Smith, Human Brain Mapping 2002), is about as low. Where the air is exactly 0, blocks
   of which a quarter is not 0 are head as well, however dark, unless there are so many of them that they are noise.
4. Of the connected blocks of head (faces), the largest, and all that have at least a twentieth of its size.
5. Their box within the first, plus a margin of 4 voxels. Where nothing stands out, that is the whole.

Zeros around an image change nothing, not even where the blocks lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["MARGIN", "Box", "box_of"]

Box = tuple[slice, slice, slice]

#: Voxels that are labelled around the head on each side.
MARGIN = 4

_SIDE = 4
#: Share of the blocks that is air at least; share of the way from air to head; share of the largest part.
_AIR, _RISE, _PART = 0.1, 0.2, 0.05
#: Where the air is 0: share of a block that is not, and share of such blocks that may be dark.
_FILLED, _DARK = 0.25, 0.25
#: More steps than the level of the head ever needed.
_STEPS = 50


def box_of(image: NDArray[np.float32]) -> Box | None:
    """Find the box of the head; the rule is at the top of this module.

    Parameters
    ----------
    image : numpy.ndarray of float32
        Shape `(D, H, W)`, normalised by any scheme; exactly 0 where there is nothing.

    Returns
    -------
    tuple of slice or None
        With the margin, within the image. None if the image is constant.
    """
    if (seen := _box(image != 0)) is None or _constant(image):
        return None
    found = _box(_largest(_risen(image[seen])))
    if found is None:
        return _wider(seen, image.shape)
    i, j, k = (_voxels(*axis) for axis in zip(seen, found, strict=True))
    return _wider((i, j, k), image.shape)


def _voxels(seen: slice, blocks: slice) -> slice:
    """Turn blocks into voxels; the crown of a head may fill too little of the first or the last block to be told."""
    start, stop = seen.start + _SIDE * blocks.start, seen.start + _SIDE * blocks.stop
    return slice(start if start - seen.start > _SIDE else seen.start, stop if seen.stop - stop > _SIDE else seen.stop)


def _constant(image: NDArray[np.float32]) -> bool:
    return bool(image.min() == image.max())


def _box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the box of what is true."""
    planes = [np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    if not planes[0].size:
        return None
    i, j, k = (slice(int(places[0]), int(places[-1]) + 1) for places in planes)
    return i, j, k


def _wider(box: Box, shape: tuple[int, ...]) -> Box:
    i, j, k = (
        slice(max(0, side.start - MARGIN), min(length, side.stop + MARGIN))
        for side, length in zip(box, shape, strict=True)
    )
    return i, j, k


def _means(part: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each block."""
    whole = np.pad(part, [(0, -length % _SIDE) for length in part.shape])
    a, b, c = (length // _SIDE for length in whole.shape)
    # In float64 the sum of so few float32 does not depend on its order, so every machine finds the same box.
    sums = whole.reshape(a, _SIDE, b, _SIDE, c, _SIDE).sum((1, 3, 5), dtype=np.float64)
    for axis, length in enumerate(part.shape):
        counts = np.full(sums.shape[axis], float(_SIDE))
        counts[-1] = length - _SIDE * (sums.shape[axis] - 1)
        sums /= np.expand_dims(counts, [other for other in range(3) if other != axis])
    means: NDArray[np.float64] = sums
    return means


def _risen(part: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which blocks rise above the air; what is exactly 0 is as dark as the darkest voxel."""
    means = _means(np.where(part == 0, np.float32(0), part - part[part != 0].min()))
    air = float(np.quantile(means, _AIR, method="lower"))
    risen = means > air + _RISE * _level(means[means > air] - air)
    if air == 0:
        filled = _means(part != 0) >= _FILLED
        if np.count_nonzero(filled & ~risen) <= _DARK * np.count_nonzero(filled):
            risen |= filled
    return risen


def _level(above: NDArray[np.float64]) -> float:
    """Return the level of the head above the air."""
    clip = float(np.sqrt(np.mean(above**2))) if above.size else 0.0
    level = 0.0
    for _ in range(_STEPS):
        level = float(np.median(above[above >= clip])) if (above >= clip).any() else level
        if clip == level / 2:
            break
        clip = level / 2
    return level


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest connected part, and those that are not much smaller."""
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= max(1, _PART * sizes.max()))[parts])
