"""Bringing an image and its labels onto one grid, once, at import.

`lia.py` has the steps of FreeSurfer's way; those of ours, in order, are:

1. Voxels of the image that are NaN or infinite become 0, if few of them are in the head.
2. Image and label must lie on the same physical grid (after reorientation), to a twentieth of a voxel.
3. Axes are flipped and permuted to the closest RAS+ orientation; no voxel changes.
4. The new grid has the same directions, the chosen spacing and number of voxels, and its central voxel where the old
   central voxel was (nibabel's `rescale_affine`, as in `nibabel.processing.conform`).
5. `resampling.resample` reads image and label there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from computation.errors import ImportScanError
from computation.scans.making import headers, lia, volumes
from computation.scans.making.resampling import outside, resample
from computation.scans.store import geometry
from computation.scans.store.blocks import Triple
from computation.scans.store.records import Affine, affine_of, holds

__all__ = ["LIKE", "Conformed", "Target", "check_aligned", "conform", "grid_of_view"]

#: Ways of conforming: nibabel's grid, RAS+; or FreeSurfer's, LIA and 8 bits.
LIKE = ("ras", "freesurfer")

#: Field of view of the grid that is taken where none is asked for, in millimetres along each axis: FreeSurfer's.
_VIEW = 256.0

#: How far apart the grids of image and label may lie, in voxels.
_APART = 0.05

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


def grid_of_view(spacing: Sequence[float] | None) -> Triple | None:
    """Return the grid that is taken where none is asked for: a field of view of 256 mm, whatever the spacing.

    Parameters
    ----------
    spacing : three floats or None
        Millimetres between voxels; None keeps each image's own, and then its field of view as well.

    Examples
    --------
    >>> grid_of_view((2.0, 2.0, 1.0))
    (128, 128, 256)
    """
    if spacing is None or not all(size > 0 for size in spacing):
        return None
    i, j, k = (round(_VIEW / size) for size in spacing)
    return (i, j, k)


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
    broken : int
        How many voxels of the file were NaN or infinite; they became 0.
    """

    image: NDArray[Any]
    label: NDArray[Any] | None
    affine: Affine
    cut: float
    broken: int = 0


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
    source = volumes.single(image)
    labels = None if label is None else volumes.single(label)
    if labels is not None:
        check_aligned(source, labels)
    if target.like == "ras":
        # FreeSurfer's way does without: which voxel is the middle of an even side depends on the file's orientation.
        source, labels = volumes.oriented(source), None if labels is None else volumes.oriented(labels)
    return _onto(source, labels, target)


def _onto(image: SpatialImage, label: SpatialImage | None, target: Target) -> Conformed:
    old = np.asarray(image.affine, np.float64)
    voxels, broken = volumes.repaired(image, label)
    i, j, k = voxels.shape
    new, shape = _grid(old, (i, j, k), target)
    conformed = resample(voxels, old, new, shape, order=1, smooth=target.like == "ras")
    if target.like == "freesurfer":
        conformed = lia.robust(voxels, conformed)
    if label is None:
        return Conformed(conformed, None, affine_of(new.tolist()), outside(voxels, old, new, shape), broken)
    # What is as good as one grid is one: image and label are then read from the same voxels.
    classes, place = volumes.numbers(label), old if _one_grid(image, label) else np.asarray(label.affine, np.float64)
    mapped, cut = resample(classes, place, new, shape, order=0), outside(classes, place, new, shape)
    return Conformed(conformed, mapped, affine_of(new.tolist()), cut, broken)


def check_aligned(image: SpatialImage, label: SpatialImage) -> None:
    """Refuse an image and a label that do not lie on one physical grid, by their headers alone.

    Raises
    ------
    ImportScanError
        If they do not, after reorientation.
    """
    image, label = (volumes.oriented(headers.blank(one)) for one in (image, label))
    if image.shape != label.shape:
        sizes = " and ".join(" x ".join(map(str, one.shape)) for one in (image, label))
        raise ImportScanError(
            f"image and label have different grids, {sizes} voxels; resample the label onto the image"
        )
    if not _one_grid(image, label):
        apart = geometry.apart(image.affine, label.affine, image.shape)
        text = f"image and label have different grids: their corners lie {apart:.2f} mm apart"
        raise ImportScanError(f"{text}; resample the label onto the image, or repair its header")


def _one_grid(image: SpatialImage, label: SpatialImage) -> bool:
    limit = _APART * float(geometry.spacing(image.affine).min())
    return image.shape == label.shape and geometry.apart(image.affine, label.affine, image.shape) <= limit


def _grid(affine: NDArray[np.float64], shape: Triple, target: Target) -> tuple[NDArray[np.float64], Triple]:
    if target.like == "freesurfer":
        sides = target.grid or (256, 256, 256)
        return lia.grid(affine, shape, np.array(target.spacing or (1.0, 1.0, 1.0)), sides), sides
    own = geometry.spacing(affine)
    spacing = own if target.spacing is None else np.array(target.spacing)
    # A header's 0.99999 mm is the wanted 1 mm; resampling it would only blur.
    spacing = np.where(np.isclose(spacing, own, rtol=_SAME, atol=0), own, spacing)
    extent = np.ceil(np.array(shape) * own / spacing - _SAME)
    i, j, k = target.grid or (int(length) for length in extent)
    if not holds((i, j, k)):
        text = f"the conformed image would have {i} x {j} x {k} voxels"
        raise ImportScanError(f"{text}; give a grid or a larger spacing, or repair the header")
    return geometry.rescaled(affine, shape, spacing.tolist(), (i, j, k)), (i, j, k)
