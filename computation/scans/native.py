"""Taking a label map from the conformed grid back to the space and header of the image as it came."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from computation.errors import ScanError
from computation.scans.records import Native, Scan

__all__ = ["to_native"]

# These nibabel functions are not annotated.
_nib: Any = nib


def to_native(labels: NDArray[Any], scan: Scan) -> nib.Nifti1Image:
    """Bring a label map back to its image's own space.

    Every voxel of the native grid takes the label of the conformed voxel that its centre lies in; outside the conformed
    grid it is 0. Nothing is interpolated.

    Parameters
    ----------
    labels : ndarray of integers, shape `scan.shape`
        On the grid of `scan`.
    scan : Scan
        Where the labels belong.

    Returns
    -------
    Nifti1Image
        With the native shape, affines, form codes and unit. If the database does not know the native image (the
        peer's, or the demo's), the conformed grid itself.

    Raises
    ------
    ScanError
        If the labels are not on the scan's grid.
    """
    if labels.shape != scan.shape or labels.dtype.kind not in "iu":
        raise ScanError(f"a label map of {labels.shape} {labels.dtype} is not on the scan's grid of {scan.shape}")
    native = scan.native or Native(scan.shape, scan.affine)
    stored = labels.astype(np.uint8 if int(labels.max()) < 256 else np.int16)
    steps = np.linalg.solve(np.array(scan.affine), np.array(native.affine))
    return _image(_nearest(stored, steps, native.shape), native)


def _nearest(labels: NDArray[Any], steps: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[Any]:
    # A hair of tolerance: rounding in an affine must not decide between a voxel at the edge and nothing.
    exact = np.where(np.abs(steps - np.rint(steps)) < 1e-4, np.rint(steps), steps)
    return np.asarray(ndimage.affine_transform(labels, exact[:3, :3], exact[:3, 3], shape, order=0, prefilter=False))


def _image(voxels: NDArray[Any], native: Native) -> nib.Nifti1Image:
    image: Any = _nib.Nifti1Image(voxels, np.array(native.affine))
    if native.sform_code == 0 and native.qform_code > 0:
        image.set_sform(None, 0)
        image.set_qform(np.array(native.affine), native.qform_code)
    else:
        image.set_sform(np.array(native.affine), native.sform_code or 1)
        qform = native.affine if native.qform is None else native.qform
        image.set_qform(np.array(qform), native.qform_code)
    image.header.set_xyzt_units(native.units if native.units != "unknown" else None)
    written: nib.Nifti1Image = image
    return written
