"""From what nibabel read to one 3-D array of numbers: a single volume, and voxels that are not numbers told of."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from computation.errors import ImportScanError
from computation.scans.making import headers
from computation.scans.making.resampling import resample

__all__ = ["numbers", "oriented", "repaired", "single"]

# These nibabel functions are not annotated.
_nib: Any = nib

#: The largest and the smallest values that float32 holds in full; an image beyond them was scaled by mistake.
_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)

#: With a larger share of the head missing than this, what is left is no scan of it.
_MISSING = 0.01


def single(image: SpatialImage) -> SpatialImage:
    """Return the one 3-D volume of an image, its affine in millimetres.

    Raises
    ------
    ImportScanError
        If there are several or none, or the affine has no volume.
    """
    headers.check_shape(image.shape)
    headers.check_affine(image)
    one: SpatialImage = _nib.squeeze_image(image) if len(image.shape) > 3 else image
    # nibabel's own header would note the converted affine as another form; what goes on from here needs no header.
    return one if headers.millimetres(image) == 1 else SpatialImage(one.dataobj, headers.affine(image))


def oriented(image: SpatialImage) -> SpatialImage:
    """Return the image with its axes flipped and permuted to the closest RAS+; no voxel changes."""
    turned: SpatialImage = _nib.as_closest_canonical(image)
    return turned


def numbers(image: SpatialImage) -> NDArray[Any]:
    """Return the voxels of a label map: finite numbers.

    Raises
    ------
    ImportScanError
        If they are of another type, or some are NaN or infinite: nobody can tell which class these are.
    """
    voxels = _real(image)
    if voxels.dtype.kind == "f" and (count := int(voxels.size - np.count_nonzero(np.isfinite(voxels)))):
        raise ImportScanError(f"{count} voxels of the label map are NaN or infinite; repair it first")
    return voxels


def repaired(image: SpatialImage, label: SpatialImage | None) -> tuple[NDArray[Any], int]:
    """Return the voxels of an image, with 0 for those that are NaN or infinite.

    Tools that mask a brain, or divide two images, leave NaN outside the head, where it does no harm.

    Parameters
    ----------
    image : SpatialImage
        One volume.
    label : SpatialImage or None
        Its label map, whose voxels that are not zero are the head; without one, the head is what is finite and not
        zero, with all that it encloses.

    Returns
    -------
    voxels : ndarray
        Finite.
    count : int
        How many were not.

    Raises
    ------
    ImportScanError
        If the voxels are no numbers or none that float32 can hold, or if more than a hundredth of the head is NaN or
        infinite.
    """
    voxels = _real(image)
    if voxels.dtype.kind != "f" or (broken := ~np.isfinite(voxels)).sum() == 0:
        _check_range(voxels)
        return voxels, 0
    voxels = np.where(broken, np.zeros((), voxels.dtype), voxels)
    _check_range(voxels)
    inside = ndimage.binary_fill_holes(voxels != 0) if label is None else _on(image, label)
    count, missing = int(broken.sum()), int(np.count_nonzero(broken & inside)) / max(1, int(np.count_nonzero(inside)))
    if missing > _MISSING:
        text = (
            f"{count} voxels are NaN or infinite, among them {missing:.1%} of the head; at most {_MISSING:.0%} may be"
        )
        raise ImportScanError(f"{text}; repair the image first")
    return voxels, count


def _check_range(voxels: NDArray[Any]) -> None:
    furthest = max(abs(float(voxels.min())), abs(float(voxels.max())))
    if furthest > _LARGEST or 0 < furthest < _SMALLEST:
        raise ImportScanError(f"the image's values reach {furthest:.3g}, which float32 cannot hold; rescale the image")


def _on(image: SpatialImage, label: SpatialImage) -> NDArray[np.bool_]:
    """Return where the label is not zero, in the axis order of the image."""
    i, j, k = image.shape
    read = resample(numbers(label), np.asarray(label.affine), np.asarray(image.affine), (i, j, k), order=0)
    return np.asarray(read != 0)


def _real(image: SpatialImage) -> NDArray[Any]:
    voxels = np.asanyarray(image.dataobj)
    if voxels.dtype.kind not in "iufb":
        raise ImportScanError(f"voxels of type {voxels.dtype} are not numbers; convert the file to grey values")
    return voxels.astype(np.uint8) if voxels.dtype.kind == "b" else voxels
