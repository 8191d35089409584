"""One raw scan to labels in its own space: prepare, compute, optionally mirror, go back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from computation import __version__
from computation.commands.model import Model
from computation.commands.plausible import implausible
from computation.scans.drawing.sides import counterparts
from computation.scans.making import images
from computation.scans.making.native import shares_to_native
from computation.scans.making.wall import wall
from computation.scans.store import geometry
from computation.scans.store.blocks import Triple
from computation.training import inference
from computation.training.preprocessing import Prepared, prepare

__all__ = ["Segmented", "probabilities", "segment"]


@dataclass(frozen=True, eq=False)
class Segmented:
    """The labels of one scan.

    Attributes
    ----------
    prepared : Prepared
        The model's input, on the conformed grid.
    labels : numpy.ndarray of uint8
        On the conformed grid.
    native : Nifti1Image
        In the scan's own space, from the probabilities: see `native.shares_to_native`.
    counts : tuple of int
        Native voxels of each class.
    voxel_ml : float
        Millilitres of one of them.
    notes : tuple of str
        What is odd about the scan, and about the labels' volumes; names neither files nor people.
    """

    prepared: Prepared
    labels: NDArray[np.uint8]
    native: Any
    counts: tuple[int, ...]
    voxel_ml: float
    notes: tuple[str, ...]


def segment(model: Model, path: Path, *, tile: Triple | None = None, flips: bool = False) -> Segmented:
    """Label a raw scan.

    Parameters
    ----------
    model : Model
        What to use.
    path : Path
        The scan.
    tile : tuple of int, optional
        Sides of the tiles; by default the model's own, or the whole volume if it fits.
    flips : bool
        Average with the result for the mirrored scan.

    Raises
    ------
    ImportScanError
        If the scan cannot be read or used.
    DeviceError
        If memory runs out.
    """
    with wall(path):
        prepared = prepare(images.load(path), model.preprocessing)
    shares = probabilities(model, prepared.voxels, tile=tile, flips=flips)
    labels = shares.argmax(0).numpy().astype(np.uint8)
    native: Any = shares_to_native(shares.numpy(), prepared.scan)
    native.header.set_intent("label", name="labels")
    native.header["descrip"] = f"MeshNet labels, coinstac-meshnet {__version__}".encode()
    classes = len(model.metadata.labels)
    counts = np.bincount(np.asarray(native.dataobj).ravel(), minlength=classes)
    unit = prepared.scan.native.millimetres if prepared.scan.native else 1.0
    voxel = float(abs(np.linalg.det(np.asarray(native.affine)[:3, :3]))) * unit**3 / 1000
    view = geometry.spacing(np.asarray(native.affine)) * unit * native.shape
    strange = implausible(model.metadata.labels, (counts * voxel).tolist(), view.tolist())
    return Segmented(prepared, labels, native, tuple(map(int, counts)), voxel, (*prepared.notes, *strange))


def probabilities(
    model: Model, voxels: NDArray[np.float32], *, tile: Triple | None = None, flips: bool = False
) -> Tensor:
    """Return the probability of each class in each voxel of a prepared scan.

    The first axis of both ways of conforming runs between left and right; that is the one that is mirrored, and classes
    that belong to a side change places with those of the other.

    Parameters
    ----------
    model, tile, flips
        As `segment`.
    voxels : numpy.ndarray of float32
        Normalised.

    Returns
    -------
    Tensor of float32
        Shape `(classes, D, H, W)`.
    """
    how: dict[str, Any] = {"precision": model.preprocessing.precision, "tile": tile or model.preprocessing.tile}
    shares = inference.probabilities(model.network, voxels, **how)
    if not flips:
        return shares
    mirrored = inference.probabilities(model.network, np.ascontiguousarray(voxels[::-1]), **how)
    # Class by class and in place: a hundred classes of a whole head are seven gigabytes.
    for place, other in enumerate(counterparts(model.metadata.labels)):
        shares[place] += mirrored[other].flip(0)
    return shares.div_(2)
