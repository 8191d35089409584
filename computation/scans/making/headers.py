"""What a file's header says of its volume, in millimetres, and what is refused for it before a voxel is read.

Units are taken as ITK takes them (`itkNiftiImageIO.cxx`, `ReadImageInformation`): the numbers of a NIfTI header that
counts in metres are multiplied by 1,000, those of one that counts in micrometres by 0.001; all else is millimetres.
"""

from __future__ import annotations

from math import prod
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from computation.errors import ImportScanError
from computation.scans.store import geometry
from computation.scans.store.records import UNITS, holds

__all__ = ["affine", "blank", "check", "check_affine", "check_shape", "millimetres", "unit"]

#: Voxels smaller than this, in cubic millimetres, come from a broken header.
_FLAT = 1e-11

#: Voxel sizes, and longest sides of a field of view, that an image of a head may have, in millimetres: what scanners
#: do and a wide margin to both sides, so that only a wrong unit or a broken header lies beyond.
_SPACING, _VIEW = (0.05, 50.0), (5.0, 2500.0)

#: How much memory the voxels of one file may take, in bytes: 0.25 mm of a whole head in 16 bits, 0.5 mm in 64.
_MOST_BYTES = 1 << 30


def unit(image: SpatialImage) -> str:
    """Return the spatial unit that a NIfTI header names; ``unknown`` where it names none that exists."""
    header: Any = image.header
    if not isinstance(image.header, nib.Nifti1Header):
        return "mm"
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def millimetres(image: SpatialImage) -> float:
    """Return how many millimetres one of the header's units is."""
    return UNITS.get(unit(image), 1.0)


def affine(image: SpatialImage) -> NDArray[np.float64]:
    """Return the image's affine, voxel indices to RAS+ millimetres."""
    return geometry.in_millimetres(np.asarray(image.affine, np.float64), millimetres(image))


def blank(image: SpatialImage) -> SpatialImage:
    """Return an image of nothing on the same grid, so that grids can be compared before voxels are read."""
    return SpatialImage(np.broadcast_to(np.uint8(0), image.shape[:3]), affine(image))


def check(image: SpatialImage) -> None:
    """Refuse what cannot be a scan of a head, by its header alone.

    Raises
    ------
    ImportScanError
        If it is not one 3-D volume, its voxels are no numbers or take more memory than a scan does, its affine has no
        volume, or its size is no head's.
    """
    check_shape(image.shape)
    _check_memory(image)
    check_affine(image)
    _check_size(image)


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse a shape that is not one 3-D volume.

    Raises
    ------
    ImportScanError
        If there are several volumes or none.
    """
    if len(shape) < 3 or any(length < 1 for length in shape) or any(length != 1 for length in shape[3:]):
        raise ImportScanError(f"wanted one 3-D volume, found a shape of {_times(shape)}")


def check_affine(image: SpatialImage) -> None:
    """Refuse an affine that says nothing of where the voxels are.

    Raises
    ------
    ImportScanError
        If it is not finite or has no volume; the message names the part of the header that it comes from.
    """
    matrix = affine(image)
    finite = bool(np.isfinite(matrix).all())
    if not finite or abs(np.linalg.det(matrix[:3, :3])) < _FLAT:
        what = "has no volume" if finite else "holds a number that is NaN or infinite"
        raise ImportScanError(f"the header's {_form(image)} {what}; repair the header")


def _check_memory(image: SpatialImage) -> None:
    dtype = np.dtype(image.get_data_dtype())
    if dtype.kind not in "iufb":
        raise ImportScanError(f"voxels of type {dtype} are not numbers; convert the file to grey values")
    size = prod(image.shape) * (max(8, dtype.itemsize) if _scaled(image) else dtype.itemsize)
    if not holds(image.shape[:3]) or size > _MOST_BYTES:
        found = f"the header tells of {_times(image.shape)} voxels, {size / 1e9:.3g} GB in memory"
        wanted = f"wanted at most 4096 a side and {_MOST_BYTES / 1e9:.3g} GB"
        raise ImportScanError(f"{found}; {wanted}: crop or resample the image, or repair its header")


def _scaled(image: SpatialImage) -> bool:
    """Tell whether nibabel multiplies the voxels, which then are float64."""
    slope, inter = (np.asarray(getattr(image.dataobj, name, usual)) for name, usual in (("slope", 1), ("inter", 0)))
    return bool((slope != 1).any() or (inter != 0).any())


def _check_size(image: SpatialImage) -> None:
    spacing = geometry.spacing(affine(image))
    view = spacing * np.array(image.shape[:3])
    if _SPACING[0] <= spacing.min() and spacing.max() <= _SPACING[1] and _VIEW[0] <= view.max() <= _VIEW[1]:
        return
    sizes, sides = (" x ".join(f"{size:.4g}" for size in some) for some in (spacing, view))
    named = unit(image)
    counts = f"counts in {named}" if named in UNITS else "names no unit, and mm were taken"
    text = f"voxels of {sizes} mm, {sides} mm in all, cannot be a head; the header {counts}"
    raise ImportScanError(f"{text}: correct its unit (NIfTI's xyzt_units) or its voxel sizes")


def _form(image: SpatialImage) -> str:
    """Name the part of a header that its affine comes from."""
    header: Any = image.header
    if not isinstance(header, nib.Nifti1Header):
        return "affine"
    return "sform" if header["sform_code"] > 0 else "qform" if header["qform_code"] > 0 else "pixdim"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
