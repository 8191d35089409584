"""Reading the files that MRI comes in: NIfTI-1 and -2, .mgz and whatever else nibabel knows."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from computation.errors import ImportScanError
from computation.scans.records import Native

__all__ = ["checksum", "load", "native", "storable"]

#: Levels of an image that is not whole numbers: scanners digitise at 12 bits, and anything finer stores noise.
_LEVELS = 4095

_WHOLE_TYPES = ("uint8", "int16", "uint16")


def load(path: Path) -> nib.spatialimages.SpatialImage:
    """Read an image or label file into memory.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    SpatialImage
        With its voxels read, so that a truncated file is found here.

    Raises
    ------
    ImportScanError
        If the file is missing, of no known format, truncated, or its header lies about its size.
    """
    if not path.is_file():
        raise ImportScanError("the file is missing; check the table", str(path))
    try:
        image = nib.load(path)
        if not isinstance(image, nib.spatialimages.SpatialImage):
            raise ImportScanError("the file holds no volume", str(path))
        voxels = np.asanyarray(image.dataobj)
        return image.__class__(voxels, image.affine, image.header)
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        nib.wrapstruct.WrapStructError,
    ) as error:
        raise ImportScanError("the file is not an image that nibabel can read", f"{path}: {error}") from error
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error) as error:
        raise ImportScanError("the file is truncated or damaged", f"{path}: {error}") from error


def native(image: nib.spatialimages.SpatialImage) -> Native:
    """Keep what is needed to bring a prediction back to the space and header of its image."""
    i, j, k = image.shape[:3]
    affine = tuple(tuple(float(value) for value in row) for row in np.asarray(image.affine, np.float64))
    if not isinstance(image.header, nib.Nifti1Header):
        return Native((i, j, k), affine)
    header: Any = image.header
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    return Native((i, j, k), affine, *codes, units=str(header.get_xyzt_units()[0]))


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def storable(image: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Choose the type in which an image is stored.

    Parameters
    ----------
    image : ndarray
        Finite values of any type.

    Returns
    -------
    stored : ndarray of uint8, int16 or uint16
        Exact if every value is whole and fits; otherwise rounded to one of 4,095 levels.
    slope : float
        The value is ``stored * slope``; a zero stays zero.
    """
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind != "f" or bool((image == np.rint(image)).all()):
        for name in _WHOLE_TYPES:
            if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
                return image.astype(name), 1.0
    slope = max(abs(low), abs(high)) / _LEVELS
    return np.rint(image / slope).astype("uint16" if low >= 0 else "int16"), slope
