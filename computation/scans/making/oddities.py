"""What is odd about an image, though it can be used: sentences for the person who imports it."""

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from computation.scans.making import headers
from computation.scans.making.conform import Conformed
from computation.scans.store import geometry
from computation.scans.store.records import UNITS

__all__ = ["broken", "noticed", "odd", "other_affine", "roomy"]

#: Affines whose corners are further apart than this, in voxels, disagree.
_APART = 0.05

#: Fewer voxels than this along an axis do not resolve a head; voxels longer than this times their width are slices.
_FEW, _LONG = 32, 2.0

#: A head whose box takes up a smaller share of the grid than this lies in far too much air: 256 voxels a side leave it
#: a fifth at 1 mm, stripped of its skull, and a fortieth at 2 mm.
_ROOMY = 0.1


def odd(image: SpatialImage) -> tuple[str, ...]:
    """List what a person should know about an image's header.

    Parameters
    ----------
    image : SpatialImage
        As it was read.

    Returns
    -------
    tuple of str
        Sentences; none of them names a file or a person.
    """
    shape, spacing = image.shape[:3], geometry.spacing(headers.affine(image))
    found = []
    if len(image.shape) > 3:
        found.append(f"the file has {len(image.shape)} dimensions; its single volume was taken")
    if min(shape) < _FEW:
        found.append(f"the image is tiny: {' x '.join(map(str, shape))} voxels")
    if spacing.max() > _LONG * spacing.min():
        sizes = " x ".join(f"{size:.3g}" for size in spacing)
        found.append(f"voxels are anisotropic: {sizes} mm; nothing between the slices was measured")
    return (*found, *_header(image))


def noticed(
    image: SpatialImage, scan: Conformed, beyond: str = "outside the grid; choose a larger one"
) -> tuple[str, ...]:
    """List what a person should know about an image that was conformed: what is odd in its header, and in its voxels.

    Parameters
    ----------
    image : SpatialImage
        As it was read.
    scan : Conformed
        What became of it.
    beyond : str
        Where the part of a head lies that does not fit, and what to do about it.

    Returns
    -------
    tuple of str
        Sentences; none of them names a file or a person.
    """
    found = []
    if scan.broken:
        found.append(broken(scan.broken))
    if scan.cut > 0:
        found.append(f"{scan.cut:.2%} of the head lies {beyond}")
    if scan.image.min() < 0:
        found.append("the image has negative values; its zeros are still taken as background")
    if scan.label is not None and not scan.label.any():
        found.append("the label map is empty on this grid")
    return (*odd(image), *found)


def roomy(scan: Conformed) -> tuple[str, ...]:
    """Say that a grid is far larger than what was put on it, and how many voxels would do.

    Parameters
    ----------
    scan : Conformed
        A scan on its grid.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    planes = [np.flatnonzero(scan.image.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    sides = [int(found[-1] - found[0]) + 1 if found.size else 0 for found in planes]
    share = math.prod(sides) / scan.image.size
    if share >= _ROOMY or not all(sides):
        return ()
    grid, box = (" x ".join(map(str, numbers)) for numbers in (scan.image.shape, sides))
    return (f"the grid of {grid} voxels is far larger than the head, which takes {box}; a smaller grid saves time",)


def broken(count: int) -> str:
    """Say that voxels of an image were no finite numbers."""
    return f"{count} voxels were NaN or infinite, hardly any of them in the head; they became 0"


def other_affine(image: SpatialImage) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the qform of a NIfTI image whose sform was used, if it has one that is an affine."""
    header: Any = image.header
    if not _two_forms(image):
        return None
    try:
        qform = np.asarray(header.get_qform(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None
    return qform if np.isfinite(qform).all() and np.linalg.det(qform) != 0 else None


def _two_forms(image: SpatialImage) -> bool:
    header: Any = image.header
    return isinstance(image.header, nib.Nifti1Header) and header["sform_code"] > 0 and header["qform_code"] > 0


def _header(image: SpatialImage) -> list[str]:
    header: Any = image.header
    if not isinstance(image.header, nib.Nifti1Header):
        if isinstance(image, nib.AnalyzeImage):
            return ["an Analyze file does not say which side is left; nibabel's convention was taken"]
        return []
    found = []
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        found.append("the header gives no orientation (sform and qform codes are 0); nibabel's convention was taken")
    if UNITS.get(units := headers.unit(image), 1.0) != 1:
        found.append(f"the header counts in {units}, not mm; its numbers were converted")
    qform = other_affine(image)
    if qform is None and _two_forms(image):
        found.append("the header's qform is malformed; the sform was taken")
    apart = 0.0 if qform is None else geometry.apart(image.affine, qform, image.shape[:3]) * headers.millimetres(image)
    if apart > _APART * geometry.spacing(headers.affine(image)).min():
        found.append(f"sform and qform disagree by up to {apart:.1f} mm; the sform was taken")
    return found
