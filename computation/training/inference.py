"""From an image to labels: the box of the head at once if it fits, else overlapping tiles.

Only what is within the box of the head (`head.box_of`) is labelled; outside it, and on a tile that is constant, the
background has probability 1. Validation, test, `predict` and `evaluate` all come through here.

Zero padding at the volume's border is the network's own; at the inner border of a tile it is not, so a margin of each
tile is thrown away. With a margin of half the receptive field the tiles give the whole volume's result; a smaller one
is faster and differs near the seams only, where overlapping tiles are averaged after the softmax.

Group normalisation uses the statistics of what it sees, so a tile never quite gives the whole volume's result; and a
network that learnt from sub-volumes wants tiles of their size (`learnt_tile`) with as much air as they had. So tiles
reach beyond the box of the head by their margin, and a box smaller than a tile is shown with what is around it. Without
a tile such a network learnt from whole volumes, air and all: it gets the whole volume. Either way only the labels
within the box are kept.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from computation.errors import DeviceError, ModelError
from computation.files import replacing
from computation.model.architecture import Architecture
from computation.model.network import MeshNet, receptive_field
from computation.scans.store.blocks import Triple
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.settings import Settings
from computation.training import head
from computation.training.device import autocast, computing

__all__ = ["Told", "learnt_tile", "predict", "probabilities", "save", "segment", "write"]

#: Hears of what must not be hidden.
Told = Callable[[str], None]

# nibabel's image classes are not annotated.
_nibabel: Any = nibabel

#: Memory that the activations of one forward pass may take; above it, tiles. Fixed, so that one scan gives the same
#: labels on every machine.
_BUDGET = 4 << 30
#: A tile's margin is this part of its side; docs/recipe.md has what was measured of others.
_MARGIN = 8
#: Sides of tiles, largest first.
_SIDES = (192, 160, 128, 96, 64)


def predict(
    model: MeshNet,
    store: Store,
    scan: Scan,
    *,
    precision: str = "float32",
    tile: Triple | None = None,
    margin: int | None = None,
    told: Told | None = None,
) -> NDArray[np.uint8]:
    """Label one scan of a store, on its stored grid.

    Parameters
    ----------
    model : MeshNet
        On any device; it is left in the mode in which it was.
    store, scan : Store and Scan
        Where the image is.
    precision : str
        `float32`, `bfloat16` (autocast) or `float64`.
    tile, margin, told : optional
        See `probabilities`.

    Returns
    -------
    numpy.ndarray of uint8
        Shape `scan.shape`, label values.

    Raises
    ------
    ScanError
        If the image cannot be read.
    DeviceError
        If not even small tiles fit into memory.
    """
    image = store.read_image(scan, (0, 0, 0), scan.shape)
    return segment(model, image, precision=precision, tile=tile, margin=margin, told=told)


def segment(
    model: MeshNet,
    image: NDArray[np.float32],
    *,
    precision: str = "float32",
    tile: Triple | None = None,
    margin: int | None = None,
    told: Told | None = None,
) -> NDArray[np.uint8]:
    """Label a normalised image; see `predict`."""
    labels: NDArray[np.uint8] = (
        probabilities(model, image, precision=precision, tile=tile, margin=margin, told=told)
        .argmax(0)
        .to(torch.uint8)
        .numpy()
    )
    return labels


def probabilities(
    model: MeshNet,
    image: NDArray[np.float32],
    *,
    precision: str = "float32",
    tile: Triple | None = None,
    margin: int | None = None,
    told: Told | None = None,
) -> Tensor:
    """Return the probability of each class in each voxel.

    Parameters
    ----------
    model : MeshNet
        On any device; it is left in the mode in which it was.
    image : numpy.ndarray of float32
        Shape `(D, H, W)`, normalised.
    precision : str
        `float32`, `bfloat16` (autocast) or `float64`.
    tile : tuple of int, optional
        Sides of a tile in voxels; no tile is smaller where the image is not. By default the whole box of the head (with
        group normalisation: the whole volume) if its activations take at most 4 GiB, else the largest of a few cubes
        that does; if memory runs out nevertheless, a smaller one.
    margin : int, optional
        Voxels thrown away at a tile's inner borders, and shown around the box where a tile is given; by default an
        eighth of its side, but no more than half the receptive field.
    told : callable, optional
        Gets a sentence if memory ran out and smaller tiles had to do; labels near their seams may then differ.

    Returns
    -------
    Tensor of float32
        Shape `(classes, D, H, W)`, on the CPU; class 0 has 1 outside the box of the head.

    Raises
    ------
    ModelError
        If nothing is left of a tile within its margins.
    DeviceError
        If not even the smallest tiles fit into memory.
    """
    shares = torch.zeros((model.architecture.classes, *image.shape))
    shares[0] = 1
    if (box := head.box_of(image)) is None:
        return shares
    seen = _shown(model.architecture, box, image.shape, tile, margin)
    inner = [slice(one.start - other.start, one.stop - other.start) for one, other in zip(box, seen, strict=True)]
    field = _fitting(model, image[seen], precision, tile, margin, told)
    shares[(slice(None), *box)] = field[(slice(None), *inner)]
    return shares


def _shown(
    architecture: Architecture, box: head.Box, shape: tuple[int, ...], tile: Triple | None, margin: int | None
) -> tuple[slice, ...]:
    """Return what of an image the network sees, which holds the box."""
    if tile is None:
        return tuple(slice(0, length) for length in shape) if architecture.norm == "group" else box
    margins = _margins(architecture, tile, margin)
    return tuple(_longer(*axis) for axis in zip(box, shape, tile, margins, strict=True))


def _longer(side: slice, length: int, least: int, margin: int) -> slice:
    """Put a margin around one side of a box, and what it lacks of the least; an image that ends sooner has no more."""
    first, last = max(0, side.start - margin), min(length, side.stop + margin)
    whole = max(last - first, min(least, length))
    start = max(0, min(first - (whole - last + first) // 2, length - whole))
    return slice(start, start + whole)


def _margins(architecture: Architecture, tile: Triple, margin: int | None) -> list[int]:
    most = receptive_field(architecture) // 2
    return [min(most, side // _MARGIN) if margin is None else margin for side in tile]


def _fitting(
    model: MeshNet,
    image: NDArray[np.float32],
    precision: str,
    tile: Triple | None,
    margin: int | None,
    told: Told | None,
) -> Tensor:
    """Label all of an image, on the largest tiles that fit."""
    sizes = [tile] if tile else _sizes(model.architecture, image.shape)
    for size in sizes[:-1]:
        try:
            return _tiled(model, image, size, margin, precision)
        except DeviceError:
            if told:
                told(f"tiles of {max(size)} voxels a side did not fit into the device's memory; smaller ones were used")
    return _tiled(model, image, sizes[-1], margin, precision)


def learnt_tile(settings: Settings) -> Triple | None:
    """Return the tile on which a run's model should be used; None is the whole volume if it fits."""
    grouped = settings.norm == "group" and not settings.whole_volume
    return settings.patch_size if grouped else None


def _sizes(architecture: Architecture, shape: tuple[int, ...]) -> list[Triple]:
    """Return the tiles to try, largest first; the first may hold the whole volume."""
    sides = dict.fromkeys(side for side in (max(shape), *_SIDES) if side <= max(shape))
    cubes = [(side, side, side) for side in sides]
    fitting = [cube for cube in cubes if _bytes(architecture, tuple(map(min, cube, shape))) <= _BUDGET]
    return fitting or cubes[-1:]


def _bytes(architecture: Architecture, shape: tuple[int, ...]) -> int:
    """Estimate the peak: three activations of a hidden layer, then the scores and their softmax."""
    voxels = int(np.prod(shape, dtype=np.int64))
    return 4 * voxels * (3 * architecture.width + 2 * architecture.classes)


def _tiled(model: MeshNet, image: NDArray[np.float32], size: Triple, margin: int | None, precision: str) -> Tensor:
    shape = image.shape
    total = torch.zeros((model.architecture.classes, *shape))
    seen = torch.zeros(shape)
    for tile, core in _tiles(shape, size, _margins(model.architecture, size, margin)):
        inner = tuple(slice(c.start - t.start, c.stop - t.start) for t, c in zip(tile, core, strict=True))
        part = image[tile]
        if part.min() == part.max():
            # Normalised nothing is anything.
            total[0][core] += 1
        else:
            total[(slice(None), *core)] += _forward(model, part, precision)[(slice(None), *inner)]
        seen[core] += 1
    return total.div_(seen)


def _tiles(
    shape: Sequence[int], size: Sequence[int], margins: Sequence[int]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield each tile with the part of it that counts; the parts cover the volume."""
    axes = [list(_spans(*axis)) for axis in zip(shape, size, margins, strict=True)]
    for spans in itertools.product(*axes):
        yield tuple(tile for tile, _ in spans), tuple(core for _, core in spans)


def _spans(length: int, side: int, margin: int) -> Iterator[tuple[slice, slice]]:
    side = min(side, length)
    step = side - 2 * margin if side < length else length
    if step < 1:
        raise ModelError(f"a tile of {side} voxels leaves nothing within margins of {margin}; choose a larger tile")
    for start in range(0, length - side + step, step):
        first = min(start, length - side)
        last = first + side
        yield slice(first, last), slice(first + margin * (first > 0), last - margin * (last < length))


def _forward(model: MeshNet, image: NDArray[np.float32], precision: str) -> Tensor:
    weight = model.head.weight
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), computing(weight.device):
            return _shares(model, torch.from_numpy(np.array(image)[None, None]).to(weight), precision)
    finally:
        model.train(training)


def _shares(model: MeshNet, volume: Tensor, precision: str) -> Tensor:
    # In a frame of its own, which `computing` can clear when memory runs out.
    with autocast(volume.device, precision):
        scores = model(volume)
    shares: Tensor = scores[0].float().softmax(0).cpu()
    return shares


def save(path: Path, labels: NDArray[np.uint8], scan: Scan) -> None:
    """Write labels as NIfTI with the scan's own affine, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.nii` or `.nii.gz`.
    labels : numpy.ndarray of uint8
        Shape `scan.shape`.
    scan : Scan
        Whose grid the labels are on.
    """
    affine = np.array(scan.affine)
    volume = _nibabel.Nifti1Image(labels, affine)
    code = (scan.native.sform_code or scan.native.qform_code) if scan.native else 0
    volume.set_sform(affine, code=code or 2)
    volume.set_qform(affine, code=code or 2)
    if not np.allclose(volume.get_qform(), affine, atol=1e-4):
        # A quaternion cannot express a shear: better no second affine than a second opinion.
        volume.set_qform(None, code=0)
    volume.header.set_xyzt_units("mm")
    volume.header.set_intent("label")
    write(path, volume)


def write(path: Path, volume: Any) -> None:
    """Write a NIfTI image, whole or not at all; equal images give equal bytes."""
    blob = volume.to_bytes()
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(blob, mtime=0) if path.suffix == ".gz" else blob)
