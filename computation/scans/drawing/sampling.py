"""Batches of sub-volumes, the same whenever and in whatever order they are asked for.

`PatchSampler` draws one random sub-volume of each scan per epoch, `GridSampler` cuts each scan into all of them. Batch
number `step` is a pure function of (seed, site, step): nothing is remembered between calls, so a resumed run, or
a thread that reads ahead, gets the bits of the unbroken run.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from computation.errors import SettingsError, StoreError
from computation.scans.drawing import places
from computation.scans.drawing.augment import NONE, Augmentation, augment
from computation.scans.drawing.sides import one_sided
from computation.scans.store.blocks import BlockGrid, Triple
from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import SqliteStore, Store
from computation.scans.store.records import Scan

__all__ = ["Batch", "GridSampler", "PatchSampler", "Skipped"]

#: Streams of random numbers that must not be the same.
_ORDER, _PLACE, _CHANGE = 1, 2, 3


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


@dataclass(frozen=True)
class _Patch:
    """A sub-volume to read: its scan, its place, and the stream of its augmentation."""

    scan: Scan
    origin: Triple
    size: Triple
    stream: tuple[int, ...]


class _Reader:
    """Reads patches into batches, and keeps count of the scans that cannot be read."""

    def __init__(self, store: Store, scans: Sequence[Scan], how: Augmentation, most_bad: float) -> None:
        if how.flip > 0 and any(map(one_sided, store.label_names)):
            raise SettingsError(
                "flipping would give the classes of one side to the other; use 'augmentation' none, or a chance of 0"
            )
        if not 0 <= most_bad <= 1:
            raise SettingsError(f"the share of bad scans to bear is {most_bad}; wanted 0 to 1")
        self._store, self._how = store, how
        self._scans, self._most_bad = len(scans), most_bad
        self._bad: set[int] = set()
        self._guard = threading.Lock()

    def collect(self, patches: Sequence[_Patch]) -> Batch:
        """Read a batch; faulty scans are left out."""
        kept: list[_Patch] = []
        pairs: list[tuple[NDArray[np.float32], NDArray[np.generic]]] = []
        skipped: list[Skipped] = []
        for patch in patches:
            where = (patch.scan, patch.origin, patch.size)
            try:
                pairs.append((self._store.read_image(*where), self._store.read_label(*where)))
            except ScanFault as fault:
                skipped.append(Skipped(patch.scan.key, fault.fault.value))
                self._count(patch.scan)
                if len(skipped) == len(patches):
                    raise
                continue
            kept.append(patch)
        images = torch.from_numpy(np.stack([image for image, _ in pairs])[:, None])
        labels = torch.from_numpy(np.stack([label.astype(np.int64) for _, label in pairs]))
        images, labels = augment(images, labels, self._how, [patch.stream for patch in kept])
        return Batch(images, labels, tuple(patch.scan.key for patch in kept), tuple(skipped))

    def _count(self, scan: Scan) -> None:
        with self._guard:
            self._bad.add(scan.key)
            bad = len(self._bad)
        if bad > self._most_bad * self._scans:
            text = f"{bad} of {self._scans} scans cannot be read, more than the share of {self._most_bad:g} to bear"
            raise StoreError(f"{text}; `coinstac-meshnet inspect` says which are damaged", f"scans {sorted(self._bad)}")


class PatchSampler:
    """Draws batches from one part of a store's split, each scan once per epoch.

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
        Of the order, the places and the augmentation.
    site : str
        The site's name, so that no two sites draw alike.
    place : str
        One of `places.PLACES`: where sub-volumes are drawn. ``foreground`` wants a database of ours; a peer's table has
        no index and is drawn from uniformly.
    augmentation : Augmentation
        What is changed at random; nothing by default.
    most_bad : float
        Share of the scans that may turn out unreadable before sampling stops.

    Raises
    ------
    StoreError
        If the split has no labelled scans.
    SettingsError
        If the patch is larger than a scan, whole volumes of different shapes would share a batch, or an option is
        unknown.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        patch_size: Triple | None,
        batch_size: int,
        seed: int,
        site: str,
        place: str = places.PLACES[0],
        augmentation: Augmentation = NONE,
        most_bad: float = 1.0,
    ) -> None:
        self._store = store
        self._scans = _labelled(store, split)
        self._size = None if patch_size in (None, (0, 0, 0)) else patch_size
        self._batch = _positive(batch_size)
        self._entropy = _entropy(seed, site, split)
        if place not in places.PLACES:
            raise SettingsError(f"place {place!r} is unknown; choose one of {', '.join(places.PLACES)}")
        self._how = place
        self._reader = _Reader(store, self._scans, augmentation, most_bad)
        _check_shapes(self._scans, self._size, batch_size)

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
        StoreError
            If more scans than the set share have turned out unreadable.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        order = self._generator(_ORDER, epoch).permutation(len(self._scans))
        chosen = [self._scans[place] for place in order[index * self._batch : (index + 1) * self._batch]]
        return self._reader.collect([self._patch(scan, epoch) for scan in chosen])

    def of_scan(self, place: int, epochs: Sequence[int]) -> Batch:
        """Draw several sub-volumes of one scan: those that it has in these epochs.

        Parameters
        ----------
        place : int
            The scan's among those of an epoch, from 0, in the store's order.
        epochs : sequence of int
            One for each sub-volume.

        Raises
        ------
        ScanFault, StoreError
            As `batch`.
        """
        return self._reader.collect([self._patch(self._scans[place], epoch) for epoch in epochs])

    def _patch(self, scan: Scan, epoch: int) -> _Patch:
        stream = (*self._entropy, _CHANGE, epoch, scan.key)
        if self._size is None:
            return _Patch(scan, (0, 0, 0), scan.shape, stream)
        # The scan's own stream: a scan that is skipped does not move the others.
        draw = self._generator(_PLACE, epoch, scan.key)
        return _Patch(scan, self._origin(scan, self._size, draw), self._size, stream)

    def _origin(self, scan: Scan, size: Triple, draw: np.random.Generator) -> Triple:
        room = _room(scan, size)
        if self._how == "centre":
            return places.centred(room, draw)
        if self._how == "foreground" and isinstance(self._store, SqliteStore):
            grid = BlockGrid(scan.shape, self._store.block_side)
            return places.foreground(room, size, self._store.foreground(scan), grid, draw)
        return places.uniform(room, draw)

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([*self._entropy, *stream])


class GridSampler:
    """Cuts every scan into sub-volumes that cover it, and serves each exactly once per epoch, shuffled.

    Parameters
    ----------
    store, split, patch_size, batch_size, seed, site, augmentation, most_bad
        As for `PatchSampler`; whole volumes are no grid.
    overlap : tuple of int
        At least so many voxels are shared by neighbours along each axis.
    least : int
        Sub-volumes whose blocks hold fewer foreground voxels than this are left out; 0 keeps all. Wants a database of
        ours: a peer's table has no index, and keeps all.

    Raises
    ------
    StoreError
        If the split has no labelled scans, or no sub-volume with foreground enough.
    SettingsError
        If the patch is larger than a scan, or the overlap not smaller than the patch.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        patch_size: Triple,
        batch_size: int,
        seed: int,
        site: str,
        overlap: Triple = (0, 0, 0),
        least: int = 0,
        augmentation: Augmentation = NONE,
        most_bad: float = 1.0,
    ) -> None:
        scans = _labelled(store, split)
        self._batch = _positive(batch_size)
        self._entropy = _entropy(seed, site, split)
        self._reader = _Reader(store, scans, augmentation, most_bad)
        if not all(0 <= shared < side for shared, side in zip(overlap, patch_size, strict=True)):
            raise SettingsError(f"an overlap of {overlap} voxels must be smaller than the patch of {patch_size}")
        _check_shapes(scans, patch_size, batch_size)
        self._size = patch_size
        cut = ((scan, start) for scan in scans for start in places.grid(scan.shape, patch_size, overlap))
        self._places = [(scan, start) for scan, start in cut if _held(store, scan, start, patch_size) >= least]
        if not self._places:
            raise StoreError(f"no sub-volume of the {split!r} part holds {least} foreground voxels; ask for fewer")

    @property
    def samples(self) -> int:
        """Sub-volumes in an epoch."""
        return len(self._places)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._places) // self._batch)

    def batch(self, step: int) -> Batch:
        """Return a batch; see `PatchSampler.batch`."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([*self._entropy, _ORDER, epoch]).permutation(len(self._places))
        return self._reader.collect(
            [self._patch(int(place), epoch) for place in order[index * self._batch : (index + 1) * self._batch]]
        )

    def _patch(self, place: int, epoch: int) -> _Patch:
        scan, origin = self._places[place]
        return _Patch(scan, origin, self._size, (*self._entropy, _CHANGE, epoch, scan.key, place))


def _labelled(store: Store, split: str) -> tuple[Scan, ...]:
    scans = tuple(scan for scan in store.scans(split) if scan.labelled)
    if not scans:
        raise StoreError(f"no labelled scans in the {split!r} part; import more scans or change the split")
    return scans


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise SettingsError(f"batch_size is {batch_size}; wanted at least 1")
    return batch_size


def _entropy(seed: int, site: str, split: str) -> tuple[int, int]:
    # A name of any length becomes one number, the same on every machine.
    return (seed, int.from_bytes(hashlib.sha256(f"{site}\0{split}".encode()).digest()[:8], "big"))


def _room(scan: Scan, size: Triple) -> Triple:
    x, y, z = (length - side for length, side in zip(scan.shape, size, strict=True))
    return (x, y, z)


def _held(store: Store, scan: Scan, start: Triple, size: Triple) -> int:
    """Count the foreground voxels of the blocks that a sub-volume touches: no fewer than its own."""
    if not isinstance(store, SqliteStore):
        return sum(size)
    side = store.block_side
    low = [place // side for place in start]
    high = [(place + length - 1) // side + 1 for place, length in zip(start, size, strict=True)]
    return int(store.foreground(scan)[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].sum())


def _check_shapes(scans: Sequence[Scan], size: Triple | None, batch_size: int) -> None:
    shapes = {scan.shape for scan in scans}
    if size is None:
        if batch_size > 1 and len(shapes) > 1:
            text = f"whole volumes of {len(shapes)} different shapes cannot share a batch"
            raise SettingsError(f"{text}; set batch_size to 1, or a patch_size, or import onto one grid")
        return
    smallest = tuple(min(sides) for sides in zip(*shapes, strict=True))
    if any(side > room for side, room in zip(size, smallest, strict=True)):
        patch, room = (" x ".join(map(str, sides)) for sides in (size, smallest))
        raise SettingsError(f"patch_size {patch} is larger than a scan of {room} voxels; choose a smaller one")
