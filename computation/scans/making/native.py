"""Taking labels from the conformed grid back to the space and header of the image as it came.

**A label map** (`to_native`) goes back so that conforming it again gives it again, as nearly as any map on the native
grid can. Conforming reads each conformed voxel from one native voxel, its source:

1. A native voxel that is the source of conformed voxels takes the class of most of them; among equals that of the
   conformed voxel that its centre lies in, else the lowest. No other choice agrees with more conformed voxels, and
   where the labels themselves were conformed from native ones, all agree: the way there and back is then exact.
2. A native voxel that is no source (the native grid is finer, or turned) takes the class with the largest share when
   the shares of all classes (each 1 or 0) are interpolated linearly: smooth surfaces, not stairs.

**Probabilities** (`shares_to_native`) are interpolated linearly, and each native voxel takes the most probable class.
That is nearer to the truth than any way back of a label map, because a label map has forgotten how near a voxel was to
the other class. Smoothing them first towards coarser grids was measured and is worse.

Outside the conformed grid both are 0. Classes go one after the other, each within the box in which it can win, so that
memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from scipy import ndimage

from computation.errors import ScanError
from computation.scans.making import resampling, volumes
from computation.scans.store.records import Native, Scan

__all__ = ["shares_to_native", "to_native"]

# These nibabel functions are not annotated.
_nib: Any = nib

_Box = tuple[slice, slice, slice]


def to_native(labels: NDArray[Any], scan: Scan) -> nib.Nifti1Image:
    """Bring a label map back to its image's own space.

    Parameters
    ----------
    labels : ndarray of integers, shape `scan.shape`
        On the grid of `scan`; not negative.
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
    old, new = np.array(scan.affine), native.world
    if resampling.is_copy(resampling.steps_between(old, new)):
        return _image(resampling.resample(stored, old, new, native.shape, order=0), native)
    found = _most(_one_hot(stored, _margin(scan, native)), scan, native)
    _vote(found, stored, scan, native)
    return _image(found.astype(stored.dtype), native)


def shares_to_native(shares: NDArray[np.float32], scan: Scan) -> nib.Nifti1Image:
    """Label the voxels of an image's own space by the probabilities of the classes on the conformed grid.

    Parameters
    ----------
    shares : ndarray of float32, shape `(classes, *scan.shape)`
        They add up to 1 in each voxel.
    scan : Scan
        Where they belong.

    Returns
    -------
    Nifti1Image
        As `to_native`.

    Raises
    ------
    ScanError
        If the probabilities are not on the scan's grid.
    """
    if shares.shape[1:] != scan.shape or shares.dtype.kind != "f":
        raise ScanError(f"probabilities of {shares.shape} {shares.dtype} are not on the scan's grid of {scan.shape}")
    native = scan.native or Native(scan.shape, scan.affine)
    found = _most(_likely(shares, _margin(scan, native)), scan, native)
    return _image(found.astype(np.uint8 if len(shares) <= 256 else np.int16), native)


def _margin(scan: Scan, native: Native) -> int:
    """Return how many voxels away a voxel can still weigh: as far as a native one reaches, and a neighbour."""
    steps = resampling.steps_between(np.array(scan.affine), native.world)
    longest = float(np.linalg.norm(steps[:3, :3], axis=1).max())
    return 2 + math.ceil(2 * longest)


def _one_hot(labels: NDArray[Any], margin: int) -> Iterator[tuple[int, NDArray[np.float32], _Box]]:
    """Yield each class with its shares, 1 or 0, in the box in which it can win; background where any other can."""
    boxes: dict[int, Any] = {k: box for k, box in enumerate(ndimage.find_objects(labels), 1) if box is not None}
    if head := ndimage.find_objects((labels != 0).astype(np.uint8)):
        boxes = {0: _wider(head[0], labels.shape, margin), **boxes}
    for k, box in boxes.items():
        wide = _wider(box, labels.shape, margin)
        yield k, (labels[wide] == k).astype(np.float32), wide


def _likely(shares: NDArray[np.float32], margin: int) -> Iterator[tuple[int, NDArray[np.float32], _Box]]:
    """Yield each class with its probabilities in the box in which it can win; background where any other can.

    The winner among K classes has at least 1 / K, and so has one of the voxels between which it was interpolated.
    """
    shape, least = shares.shape[1:], np.float32(0.999 / len(shares))
    found = {k: ndimage.find_objects((shares[k] >= least).astype(np.uint8)) for k in range(1, len(shares))}
    boxes = {k: _wider(box[0], shape, margin) for k, box in found.items() if box}
    if boxes:
        yield 0, shares[0][head := _wider(_union(boxes.values()), shape, margin)], head
    for k, box in boxes.items():
        yield k, shares[k][box], box


def _wider(box: Iterable[slice], shape: tuple[int, ...], margin: int) -> _Box:
    i, j, k = (slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, shape, strict=True))
    return i, j, k


def _union(boxes: Iterable[_Box]) -> _Box:
    i, j, k = (slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
    return i, j, k


def _most(layers: Iterable[tuple[int, NDArray[np.float32], _Box]], scan: Scan, native: Native) -> NDArray[np.int16]:
    """Return the class with the largest share in each native voxel; the first among equals, 0 where there is none."""
    old, new = np.array(scan.affine), native.world
    found, best = np.zeros(native.shape, np.int16), np.zeros(native.shape, np.float32)
    for value, share, box in layers:
        # SciPy has nothing beyond the outermost centres, but half a voxel there belongs to the grid.
        padded, here = np.pad(share, 1, mode="edge"), old @ _shift([side.start - 1 for side in box])
        if (target := _covered(here, padded.shape, new, native)) is None:
            continue
        i, j, k = best[target].shape
        there = new @ _shift([side.start for side in target])
        part = resampling.resample(padded, here, there, (i, j, k), order=1, smooth=False)
        better = part > best[target]
        best[target][better] = part[better]
        found[target][better] = value
    if found.any():
        found *= resampling.resample(np.ones(scan.shape, np.uint8), old, new, native.shape, order=0, rim=True)
    return found


def _shift(offset: Sequence[int]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def _covered(old: NDArray[np.float64], sides: tuple[int, ...], new: NDArray[np.float64], native: Native) -> _Box | None:
    """Return the box of native voxels that a box of conformed ones reaches, if there are any."""
    corners = np.array([[i, j, k, 1] for i in (-1, sides[0]) for j in (-1, sides[1]) for k in (-1, sides[2])])
    places = (corners @ np.linalg.solve(new, old).T)[:, :3]
    low = np.maximum(np.floor(places.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(places.max(0)) + 1, native.shape).astype(int)
    if (high <= low).any():
        return None
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _vote(found: NDArray[np.int16], labels: NDArray[Any], scan: Scan, native: Native) -> None:
    """Give each source the class of most of the conformed voxels that are read from it, in place."""
    sources = _sources(scan, native)
    old, new = np.array(scan.affine), native.world
    lies_in = resampling.resample(labels, old, new, native.shape, order=0, rim=True)
    box = _wider(_head(labels), labels.shape, _margin(scan, native))
    near, voted = sources[box], labels[box]
    best = np.zeros(found.size + 1, np.int32)
    flat, first = found.reshape(-1), lies_in.reshape(-1)
    for value in np.unique(voted):
        cells, votes = np.unique(near[(voted == value) & (near > 0)], return_counts=True)
        score = 2 * votes + (first[cells - 1] == value)
        more = score > best[cells]
        best[cells[more]] = score[more]
        flat[cells[more] - 1] = value


def _head(labels: NDArray[Any]) -> _Box:
    boxes = ndimage.find_objects((labels != 0).astype(np.uint8))
    empty: _Box = (slice(0, 0), slice(0, 0), slice(0, 0))
    return _wider(boxes[0], labels.shape, 0) if boxes else empty


def _sources(scan: Scan, native: Native) -> NDArray[Any]:
    """Return, for each conformed voxel, 1 + the number of the native voxel that conforming reads it from; 0 for none.

    By the import's own resampling, reorientation included, so that a centre on the edge between two voxels belongs to
    the same one.
    """
    count = math.prod(native.shape)
    places = np.arange(1, count + 1, dtype=np.int32 if count < 2**31 - 1 else np.int64).reshape(native.shape)
    image: Any = SpatialImage(places, native.world)
    if scan.axes == "RAS":
        image = volumes.oriented(image)
    return resampling.resample(
        np.asanyarray(image.dataobj), np.asarray(image.affine), np.array(scan.affine), scan.shape, order=0
    )


def _image(voxels: NDArray[Any], native: Native) -> nib.Nifti1Image:
    """Return a NIfTI image with the native header's form codes, affines, `pixdim` and unit."""
    image: Any = _nib.Nifti1Image(voxels, np.array(native.affine))
    if native.sform_code == native.qform_code == 0 and native.pixdim:
        _unplace(image)
    elif native.sform_code == 0 and native.qform_code > 0:
        image.set_sform(None, 0)
        image.set_qform(np.array(native.affine), native.qform_code)
    else:
        # A format without form codes has an affine all the same.
        image.set_sform(np.array(native.affine), native.sform_code or 1)
        qform = native.affine if native.qform is None else native.qform
        image.set_qform(np.array(qform), native.qform_code)
    if native.pixdim:
        image.header["pixdim"][:4] = native.pixdim
    image.header.set_xyzt_units(native.units if native.units != "unknown" else None)
    written: nib.Nifti1Image = image
    return written


def _unplace(image: Any) -> None:
    """Take both forms out of a header: every program then places the image in its own way, as it does the scan."""
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        image.header[name] = 0
    for name in ("srow_x", "srow_y", "srow_z"):
        image.header[name] = 0
    image.set_sform(None, 0)
    image.set_qform(None, 0)
