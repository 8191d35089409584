"""From an image to labels: the whole volume at once if it fits, else overlapping tiles.

Zero padding at the volume's border is the network's own; at the inner border of a tile it is not, so a margin of each
tile is thrown away. With a margin of half the receptive field the tiles give the whole volume's result; a smaller one
is faster and differs near the seams only, where overlapping tiles are averaged after the softmax. (Group normalisation
uses the statistics of what it sees, so a tile never quite gives the whole volume's result.)
"""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from computation.errors import DeviceError, ModelError
from computation.model.architecture import Architecture
from computation.model.network import MeshNet, receptive_field
from computation.scans.records import Scan
from computation.scans.store import Store
from computation.training.device import computing

__all__ = ["autocast", "predict", "probabilities", "save", "segment"]

# nibabel's image classes are not annotated.
_nibabel: Any = nibabel

#: Memory that the activations of one forward pass may take; above it, tiles. Fixed, so that one scan gives the same
#: labels on every machine.
_BUDGET = 4 << 30
#: Sides of tiles, largest first.
_SIDES = (192, 160, 128, 96, 64)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes: bfloat16 where asked for, else as it is."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def predict(
    model: MeshNet,
    store: Store,
    scan: Scan,
    *,
    precision: str = "float32",
    tile: int | None = None,
    margin: int | None = None,
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
    tile, margin : int, optional
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
    return segment(model, image, precision=precision, tile=tile, margin=margin)


def segment(
    model: MeshNet,
    image: NDArray[np.float32],
    *,
    precision: str = "float32",
    tile: int | None = None,
    margin: int | None = None,
) -> NDArray[np.uint8]:
    """Label a normalised image; see `predict`."""
    labels: NDArray[np.uint8] = (
        probabilities(model, image, precision=precision, tile=tile, margin=margin).argmax(0).to(torch.uint8).numpy()
    )
    return labels


def probabilities(
    model: MeshNet,
    image: NDArray[np.float32],
    *,
    precision: str = "float32",
    tile: int | None = None,
    margin: int | None = None,
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
    tile : int, optional
        Side of a tile in voxels. By default the whole volume if its activations take at most 4 GiB, else the largest
        of a few sides that does; if memory runs out nevertheless, a smaller one.
    margin : int, optional
        Voxels thrown away at a tile's inner borders; by default an eighth of the tile, but no more than half the
        receptive field.

    Returns
    -------
    Tensor of float32
        Shape `(classes, D, H, W)`, on the CPU.

    Raises
    ------
    ModelError
        If nothing is left of a tile within its margins.
    DeviceError
        If not even the smallest tiles fit into memory.
    """
    sides = [tile] if tile else _sides(model.architecture, image.shape)
    for last, side in enumerate(sides, 1 - len(sides)):
        try:
            return _tiled(model, image, side, _margin(model.architecture, side, margin), precision)
        except DeviceError:
            if last == 0:
                raise
    raise ModelError("a tile has no side")


def _sides(architecture: Architecture, shape: tuple[int, ...]) -> list[int]:
    """Return the tile sides to try, largest first; the first may hold the whole volume."""
    whole = [max(shape)] if _bytes(architecture, shape) <= _BUDGET else []
    return whole + [side for side in _SIDES if side < max(shape) and _bytes(architecture, (side,) * 3) <= _BUDGET]


def _bytes(architecture: Architecture, shape: tuple[int, ...]) -> int:
    """Estimate the peak: three activations of a hidden layer, then the scores and their softmax."""
    voxels = int(np.prod(shape, dtype=np.int64))
    return 4 * voxels * (3 * architecture.width + 2 * architecture.classes)


def _margin(architecture: Architecture, side: int, margin: int | None) -> int:
    return min(receptive_field(architecture) // 2, side // 8) if margin is None else margin


def _tiled(model: MeshNet, image: NDArray[np.float32], side: int, margin: int, precision: str) -> Tensor:
    shape = image.shape
    total = torch.zeros((model.architecture.classes, *shape))
    seen = torch.zeros(shape)
    for tile, core in _tiles(shape, side, margin):
        inner = tuple(slice(c.start - t.start, c.stop - t.start) for t, c in zip(tile, core, strict=True))
        total[(slice(None), *core)] += _forward(model, image[tile], precision)[(slice(None), *inner)]
        seen[core] += 1
    return total.div_(seen)


def _tiles(shape: tuple[int, ...], side: int, margin: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Yield each tile with the part of it that counts; the parts cover the volume."""
    axes = [list(_spans(length, min(side, length), margin)) for length in shape]
    for spans in itertools.product(*axes):
        yield tuple(tile for tile, _ in spans), tuple(core for _, core in spans)


def _spans(length: int, side: int, margin: int) -> Iterator[tuple[slice, slice]]:
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
            volume = torch.from_numpy(np.array(image)[None, None]).to(weight)
            with autocast(weight.device, precision):
                scores = model(volume)
            shares: Tensor = scores[0].float().softmax(0).cpu()
            return shares
    finally:
        model.train(training)


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
    blob = volume.to_bytes()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(gzip.compress(blob, mtime=0) if path.suffix == ".gz" else blob)
    partial.replace(path)
