"""Bringing an image and its labels onto one grid, once, at import.

`lia.py` has the steps of FreeSurfer's way; those of ours, in order, are:

1. Image and label must lie on the same physical grid (after reorientation), to a twentieth of a voxel.
2. Axes are flipped and permuted to the closest RAS+ orientation; no voxel changes.
3. The new grid has the same directions, the chosen spacing and number of voxels, and its central voxel where the old
   central voxel was (nibabel's `rescale_affine`, as in `nibabel.processing.conform`).
4. If spacing does not change, voxels are copied: cropped or padded with 0, exactly.
5. Otherwise, the image is smoothed along each axis that becomes coarser by a Gaussian with
   sigma = sqrt((k^2 - 1) / (8 ln 2)) voxels, k the ratio of the spacings (Cardoso et al., "Scale factor point spread
   function matching", MICCAI 2015), and interpolated linearly; neither can overshoot, so nothing turns negative.
   Labels take the nearest neighbour. Outside the old grid both are 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from computation.errors import ImportScanError
from computation.scans import geometry, lia
from computation.scans.blocks import Triple
from computation.scans.records import Affine, affine_of

__all__ = ["LIKE", "Conformed", "Target", "conform", "resample"]

#: Ways of conforming: nibabel's grid, RAS+; or FreeSurfer's, LIA and 8 bits.
LIKE = ("ras", "freesurfer")

# These nibabel functions are not annotated.
_nib: Any = nib

#: How far apart the grids of image and label may lie, in voxels.
_APART = 0.05

#: Offsets closer to a whole voxel than this are whole: rounding in the affine, not a shift.
_WHOLE = 1e-3

#: Voxels smaller than this, in cubic millimetres, come from a broken header.
_FLAT = 1e-9

#: Spacings closer than this, relatively, are the same: headers hold float32.
_SAME = 1e-4


@dataclass(frozen=True)
class Target:
    """The grid that all scans of a database are brought onto.

    Attributes
    ----------
    spacing : tuple of float or None
        Millimetres between voxels; None keeps each image's own.
    grid : tuple of int or None
        Voxels along each axis; None keeps each image's field of view.
    like : str
        One of `LIKE`. FreeSurfer's wants a spacing and a grid.
    """

    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    grid: Triple | None = (256, 256, 256)
    like: str = LIKE[0]

    def __post_init__(self) -> None:
        if self.like not in LIKE:
            raise ImportScanError(f"conforming like {self.like!r} is unknown; choose one of {', '.join(LIKE)}")
        if self.like == "freesurfer" and (self.spacing is None or self.grid is None):
            raise ImportScanError(
                "conforming like freesurfer needs a spacing and a grid; FreeSurfer's are 1 mm and 256"
            )
        if self.spacing is not None and not all(0.1 <= size <= 20 for size in self.spacing):
            raise ImportScanError(f"spacing {self.spacing} must be from 0.1 to 20 mm")
        if self.grid is not None and not all(4 <= side <= 1024 for side in self.grid):
            raise ImportScanError(f"grid {self.grid} must be from 4 to 1024 voxels a side")


@dataclass(frozen=True, eq=False)
class Conformed:
    """A scan on its new grid.

    Attributes
    ----------
    image : ndarray
        Unchanged type if no interpolation was needed, else float32; uint8 for FreeSurfer's way.
    label : ndarray or None
        Source values, not yet mapped to classes.
    affine : tuple
        Voxel indices of the new grid to RAS+ millimetres.
    cut : float
        Share of the labelled voxels (without labels: of the voxels that are not zero) outside the new grid.
    """

    image: NDArray[Any]
    label: NDArray[Any] | None
    affine: Affine
    cut: float


def conform(image: SpatialImage, label: SpatialImage | None, target: Target) -> Conformed:
    """Bring an image and its label onto the target grid; the steps are listed at the top of this module.

    Parameters
    ----------
    image, label : SpatialImage
        3-D, or 4-D with a single volume; the label may be None.
    target : Target
        The wanted grid.

    Returns
    -------
    Conformed

    Raises
    ------
    ImportScanError
        If the image is not one 3-D volume, or the label lies on another grid.
    """
    source = _oriented(_single(image))
    labels = None if label is None else _oriented(_single(label))
    if labels is not None:
        _check_aligned(source, labels)
    if target.like == "freesurfer":
        return _like_freesurfer(_single(image), None if label is None else _single(label), target)
    old = np.asarray(source.affine, np.float64)
    voxels = _voxels(source)
    classes = None if labels is None else _voxels(labels)
    new, shape = _grid(old, source.shape, target)
    cut = _cut(voxels if classes is None else classes, old, new, shape)
    return Conformed(
        image=resample(voxels, old, new, shape, order=1),
        label=None if classes is None else resample(classes, old, new, shape, order=0),
        affine=affine_of(new.tolist()),
        cut=cut,
    )


def resample(
    voxels: NDArray[Any], old: NDArray[np.float64], new: NDArray[np.float64], shape: Triple, *, order: int
) -> NDArray[Any]:
    """Read a volume at the places of another grid with the same directions.

    Parameters
    ----------
    voxels : ndarray, 3-D
        The volume.
    old, new : ndarray, shape (4, 4)
        Affines of the volume and of the wanted grid, which may differ in spacing and position only.
    shape : tuple of int
        The wanted grid.
    order : int
        0 for labels (nearest neighbour), 1 for images (antialiased, linear).

    Returns
    -------
    ndarray
        The type of `voxels` for order 0 and when nothing has to be interpolated, else float32.
    """
    ratio, offset = _steps(old, new)
    whole = np.rint(offset)
    if np.allclose(ratio, 1.0, rtol=0, atol=_SAME) and np.allclose(offset, whole, rtol=0, atol=_WHOLE):
        return _copied(voxels, whole.astype(int), shape)
    if order == 0:
        return np.asarray(ndimage.affine_transform(voxels, ratio, offset, shape, order=0, prefilter=False))
    smooth = np.asarray(voxels, np.float32)
    sigma = [math.sqrt(max(0.0, size * size - 1) / (8 * math.log(2))) for size in ratio]
    if max(sigma) > 0:
        smooth = ndimage.gaussian_filter(smooth, sigma, mode="constant")
    return np.asarray(ndimage.affine_transform(smooth, ratio, offset, shape, order=1, prefilter=False))


def _like_freesurfer(image: SpatialImage, label: SpatialImage | None, target: Target) -> Conformed:
    # Not reoriented first: which voxel counts as the middle of an even side depends on the file's own orientation.
    old = np.asarray(image.affine, np.float64)
    shape, spacing = target.grid or (256, 256, 256), np.array(target.spacing or (1.0, 1.0, 1.0))
    voxels = _voxels(image)
    i, j, k = voxels.shape
    new = lia.grid(old, (i, j, k), spacing, shape)
    head, classes = (voxels, old), None
    if label is not None:
        head = _voxels(label), np.asarray(label.affine, np.float64)
        classes = lia.resample(*head, new, shape, order=0)
    conformed = lia.robust(voxels, lia.resample(voxels, old, new, shape, order=1))
    return Conformed(conformed, classes, affine_of(new.tolist()), lia.outside(*head, new, shape))


def _single(image: SpatialImage) -> SpatialImage:
    shape = tuple(image.shape)
    if len(shape) < 3 or 0 in shape or any(length != 1 for length in shape[3:]):
        raise ImportScanError(f"wanted one 3-D volume, found a shape of {' x '.join(map(str, shape))}")
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < _FLAT:
        raise ImportScanError("the header's affine has no volume; repair the header")
    single: SpatialImage = _nib.squeeze_image(image) if len(shape) > 3 else image
    return single


def _oriented(image: SpatialImage) -> SpatialImage:
    oriented: SpatialImage = _nib.as_closest_canonical(image)
    return oriented


def _voxels(image: SpatialImage) -> NDArray[Any]:
    voxels = np.asanyarray(image.dataobj)
    if voxels.dtype.kind not in "iufb":
        raise ImportScanError(f"voxels of type {voxels.dtype} are not numbers; convert the file to grey values")
    if voxels.dtype.kind == "f" and not (finite := np.isfinite(voxels)).all():
        count = int(voxels.size - np.count_nonzero(finite))
        raise ImportScanError(f"{count} voxels are NaN or infinite; repair the image first")
    return voxels.astype(np.uint8) if voxels.dtype.kind == "b" else voxels


def _check_aligned(image: SpatialImage, label: SpatialImage) -> None:
    if image.shape != label.shape:
        sizes = " and ".join(" x ".join(map(str, one.shape)) for one in (image, label))
        raise ImportScanError(
            f"image and label have different grids, {sizes} voxels; resample the label onto the image"
        )
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(image.shape) - 1)
    apart = np.linalg.norm(geometry.moved(image.affine, corners) - geometry.moved(label.affine, corners), axis=1).max()
    if apart > _APART * geometry.spacing(image.affine).min():
        text = f"image and label have different grids: their corners lie {apart:.2f} mm apart"
        raise ImportScanError(f"{text}; resample the label onto the image, or repair its header")


def _grid(affine: NDArray[np.float64], shape: tuple[int, ...], target: Target) -> tuple[NDArray[np.float64], Triple]:
    own = geometry.spacing(affine)
    spacing = own if target.spacing is None else np.array(target.spacing)
    # A header's 0.99999 mm is the wanted 1 mm; resampling it would only blur.
    spacing = np.where(np.isclose(spacing, own, rtol=_SAME, atol=0), own, spacing)
    extent = np.ceil(np.array(shape) * own / spacing - _SAME).astype(int)
    i, j, k = target.grid or (int(length) for length in extent)
    return geometry.rescaled(affine, shape, spacing.tolist(), (i, j, k)), (i, j, k)


def _steps(old: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, in voxels of the old grid, the step between new voxels and the place of the first."""
    matrix = np.asarray(np.linalg.solve(old, new), np.float64)
    return np.diag(matrix)[:3].copy(), matrix[:3, 3].copy()


def _copied(voxels: NDArray[Any], offset: NDArray[np.int_], shape: Triple) -> NDArray[Any]:
    out = np.zeros(shape, voxels.dtype)
    low = np.maximum(offset, 0)
    high = np.minimum(offset + np.array(shape), voxels.shape)
    if (high > low).all():
        here = tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))
        out[here] = voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return out


def _cut(voxels: NDArray[Any], old: NDArray[np.float64], new: NDArray[np.float64], shape: Triple) -> float:
    ratio, offset = _steps(old, new)
    last = offset + ratio * (np.array(shape) - 1)
    # An old voxel is kept if its centre lies within half a new voxel of the new grid.
    low = np.maximum(np.ceil(offset - ratio / 2), 0).astype(int)
    high = np.minimum(np.floor(last + ratio / 2) + 1, voxels.shape).astype(int)
    kept = int(np.count_nonzero(voxels[tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))]))
    return 1.0 - kept / max(1, int(np.count_nonzero(voxels)))
