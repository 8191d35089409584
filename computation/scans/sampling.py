"""Batches of sub-volumes, each scan once per epoch, the same whenever and in whatever order they are asked for.

Batch number `step` is a pure function of (seed, site, step): nothing is remembered between calls, so a resumed run, or
a thread that reads ahead, gets the bits of the unbroken run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from computation.errors import SettingsError, StoreError
from computation.scans.blocks import Triple
from computation.scans.faults import ScanFault
from computation.scans.records import Scan
from computation.scans.store import Store

__all__ = ["Batch", "PatchSampler", "Skipped"]

#: Streams of random numbers that must not be the same.
_ORDER, _PLACE = 1, 2


@dataclass(frozen=True)
class Skipped:
    """A scan that was left out of a batch.

    Attributes
    ----------
    scan : int
        Its key.
    reason : str
        The value of a `Fault`.
    """

    scan: int
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Sub-volumes to learn from.

    Attributes
    ----------
    images : torch.Tensor of float32, shape (N, 1, D, H, W)
        Normalised.
    labels : torch.Tensor of int64, shape (N, D, H, W)
        Class numbers.
    scans : tuple of int
        Keys of the N scans.
    skipped : tuple of Skipped
        Scans of this batch that could not be read.
    """

    images: torch.Tensor
    labels: torch.Tensor
    scans: tuple[int, ...]
    skipped: tuple[Skipped, ...]


class PatchSampler:
    """Draws batches from one part of a store's split.

    Parameters
    ----------
    store : Store
        Where the scans are.
    split : str
        ``train``, ``valid`` or ``test``. Only scans with a label map count.
    patch_size : tuple of int or None
        Sides of the sub-volumes in voxels; None or (0, 0, 0) takes whole volumes.
    batch_size : int
        Scans in a batch; the last of an epoch may be smaller.
    seed : int
        Of the order and the places.
    site : str
        The site's name, so that no two sites draw alike.

    Raises
    ------
    StoreError
        If the split has no labelled scans.
    SettingsError
        If the patch is larger than a scan, or whole volumes of different shapes would share a batch.
    """

    def __init__(
        self, store: Store, split: str, *, patch_size: Triple | None, batch_size: int, seed: int, site: str
    ) -> None:
        self._store = store
        self._scans = tuple(scan for scan in store.scans(split) if scan.labelled)
        self._size = None if patch_size in (None, (0, 0, 0)) else patch_size
        self._batch = batch_size
        # A name of any length becomes one number, the same on every machine.
        self._entropy = (seed, int.from_bytes(hashlib.sha256(f"{site}\0{split}".encode()).digest()[:8], "big"))
        if not self._scans:
            raise StoreError(f"no labelled scans in the {split!r} part; import more scans or change the split")
        if batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size}; wanted at least 1")
        self._check_shapes()

    @property
    def samples(self) -> int:
        """Scans in an epoch."""
        return len(self._scans)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._scans) // self._batch)

    def batch(self, step: int) -> Batch:
        """Draw a batch.

        Parameters
        ----------
        step : int
            From 0; epoch `step // steps_per_epoch`.

        Returns
        -------
        Batch

        Raises
        ------
        ScanFault
            If none of its scans can be read.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        order = self._generator(_ORDER, epoch).permutation(len(self._scans))
        chosen = [self._scans[place] for place in order[index * self._batch : (index + 1) * self._batch]]
        return self._collect(chosen, epoch)

    def _collect(self, chosen: Sequence[Scan], epoch: int) -> Batch:
        pairs: dict[int, tuple[NDArray[np.float32], NDArray[np.generic]]] = {}
        skipped: list[Skipped] = []
        for scan in chosen:
            origin, size = self._place(scan, epoch)
            try:
                image, label = self._store.read_image(scan, origin, size), self._store.read_label(scan, origin, size)
            except ScanFault as fault:
                skipped.append(Skipped(scan.key, fault.fault.value))
                if len(skipped) == len(chosen):
                    raise
                continue
            pairs[scan.key] = (image, label)
        images = torch.from_numpy(np.stack([image for image, _ in pairs.values()])[:, None])
        labels = torch.from_numpy(np.stack([label.astype(np.int64) for _, label in pairs.values()]))
        return Batch(images, labels, tuple(pairs), tuple(skipped))

    def _place(self, scan: Scan, epoch: int) -> tuple[Triple, Triple]:
        if self._size is None:
            return (0, 0, 0), scan.shape
        room = np.array(scan.shape) - np.array(self._size)
        # The scan's own stream: a scan that is skipped does not move the others.
        x, y, z = (int(start) for start in self._generator(_PLACE, epoch, scan.key).integers(0, room, endpoint=True))
        return (x, y, z), self._size

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([*self._entropy, *stream])

    def _check_shapes(self) -> None:
        shapes = {scan.shape for scan in self._scans}
        if self._size is None:
            if self._batch > 1 and len(shapes) > 1:
                text = f"whole volumes of {len(shapes)} different shapes cannot share a batch"
                raise SettingsError(f"{text}; set batch_size to 1, or a patch_size, or import onto one grid")
            return
        smallest = tuple(min(sides) for sides in zip(*shapes, strict=True))
        if any(side > room for side, room in zip(self._size, smallest, strict=True)):
            patch, room = (" x ".join(map(str, sides)) for sides in (self._size, smallest))
            raise SettingsError(f"patch_size {patch} is larger than a scan of {room} voxels; choose a smaller one")
