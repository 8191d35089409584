"""Reading a scan database: sub-volumes by box, from only the blocks that they touch.

The tables are documented in `schema.sql`. A file is opened read-only and immutable; every thread gets its own
connection and decompressor, so one store may be opened in one thread and read in others. No query ever fetches more
than one run of blocks. Blocks that were read last are kept, within a limit in bytes; those of zeros cost nothing.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from computation.scans.store import blocks, catalogue, normalise, schema
from computation.scans.store.assembly import assemble
from computation.scans.store.blocks import Box, Triple
from computation.scans.store.cache import BlockCache
from computation.scans.store.catalogue import Volume
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.fingerprint import fingerprint
from computation.scans.store.opened import OpenFile
from computation.scans.store.records import Scan, unpack

__all__ = ["CACHE_BYTES", "SqliteStore"]

#: How many bytes of blocks are kept unless the caller says otherwise: the heads of two or three scans.
CACHE_BYTES = 16 << 20


class _Tools(threading.local):
    """One thread's decompressor."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


class SqliteStore(OpenFile):
    """A database of ours, open for reading.

    Parameters
    ----------
    path : Path
        The file; `open_store` has already recognised it.
    cache_bytes : int
        How many bytes of decoded blocks may be kept.

    Raises
    ------
    StoreError
        If its tables do not say what the schema wants.
    """

    format = "meshnet"

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(path)
        self._cache = BlockCache(cache_bytes)
        self._tools = _Tools()
        with self._opening() as connection:
            self._held = catalogue.load(connection)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; a label voxel's value is an index into them."""
        return self._held.label_names

    @property
    def normalisation(self) -> str:
        """The scheme that `read` applies."""
        return self._held.normalisation

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the whole file, as `schema.sql` lists them."""
        return dict(self._held.meta)

    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""
        return tuple(scan for scan in self._held.scans if split is None or scan.split == split)

    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume; see `read`."""
        stored = self.stored(scan, "image", Box(origin, size))
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise ScanFault(Fault.FINITE, f"{self._path}: scan {scan.key} ({scan.subject})")
        volume = self._held.volumes[scan.key, "image"]
        return normalise.apply(stored, volume.slope, scan.low, scan.high, self._held.normalisation)

    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume; see `read`."""
        if not scan.labelled:
            raise ScanFault(Fault.UNLABELLED, f"{self._path}: scan {scan.key} ({scan.subject})")
        label = self.stored(scan, "label", Box(origin, size))
        low, high = int(label.min()), int(label.max())
        if low < 0 or high >= len(self._held.label_names):
            found = f"values {low} to {high}, classes 0 to {len(self._held.label_names) - 1}"
            raise ScanFault(Fault.LABEL, f"{self._path}: scan {scan.key} ({scan.subject}): {found}")
        return label

    def stored(self, scan: Scan, kind: str, box: Box) -> NDArray[Any]:
        """Read voxels as they are stored, neither scaled nor normalised.

        Parameters
        ----------
        scan : Scan
            One of this store's `scans()`.
        kind : str
            ``image`` or ``label``.
        box : Box
            The sub-volume.

        Returns
        -------
        ndarray
            In the stored type.

        Raises
        ------
        ScanFault
            As `read`.
        """
        volume = self._held.volumes[scan.key, kind]
        if not box.within(volume.grid.shape):
            raise ScanFault(Fault.OUTSIDE, f"{self._path}: scan {scan.key}: {box} of {volume.grid.shape}")
        voxels: NDArray[Any] = np.empty(box.size, volume.dtype)
        try:
            for part in volume.grid.sweeps(box):
                found = self._found(volume, part)
                voxels[part.slices(box.origin)] = assemble(volume.grid, part, found, volume.codec, volume.dtype)
        except ScanFault as fault:
            place = f"{self._path}: scan {scan.key} ({scan.subject}), {kind}: {fault.private}"
            raise ScanFault(fault.fault, place) from fault
        return voxels

    def foreground(self, scan: Scan) -> NDArray[np.uint32]:
        """Count each block's foreground voxels without reading a voxel.

        Parameters
        ----------
        scan : Scan
            One of this store's `scans()`.

        Returns
        -------
        ndarray of uint32, shape (blocks along i, along j, along k)
            Labelled voxels, or, without a label map, voxels of the image that are not zero.
        """
        volume = self._held.volumes[scan.key, "label" if scan.labelled else "image"]
        return np.frombuffer(volume.foreground, "<u4").reshape(volume.grid.counts)

    def verify(self, scan: Scan) -> None:
        """Read a whole scan and compare it with its stored SHA-256.

        Parameters
        ----------
        scan : Scan
            One of this store's `scans()`.

        Raises
        ------
        ScanFault
            If a block is damaged, or anything in the scan's row, voxels or foreground index has changed.
        """
        whole = Box((0, 0, 0), scan.shape)
        kept = self._held.volumes_of(scan)
        volumes = [self.stored(scan, volume.kind, whole) for volume in kept]
        cells, stored = self.sealed(scan)
        if (found := fingerprint(cells, volumes)) != stored:
            place = f"{self._path}: scan {scan.key} ({scan.subject})"
            raise ScanFault(Fault.CHECKSUM, f"{place}: SHA-256 {found}, stored {stored}")
        for volume, voxels in zip(kept, volumes, strict=True):
            index = np.frombuffer(volume.foreground, "<u4")
            if int(index.sum()) != np.count_nonzero(voxels):
                place = f"{self._path}: scan {scan.key} ({scan.subject}): {volume.kind} foreground"
                raise ScanFault(Fault.CHECKSUM, place)

    def volumes(self, scan: Scan) -> tuple[Volume, ...]:
        """Return where a scan's image and, if it has one, its label map lie."""
        return self._held.volumes_of(scan)

    def source(self, scan: Scan) -> dict[str, Any]:
        """Return the SHA-256 of each file that a scan was made from."""
        cells, _ = self.sealed(scan)
        found = unpack(cells[catalogue.SEALED.index("source")], "source")
        return found if isinstance(found, dict) else {}

    def packed(self, volume: Volume) -> Iterator[bytes]:
        """Yield a volume's blocks as they are stored, in order.

        Raises
        ------
        ScanFault
            If a block is missing or fails its checksum.
        """
        place = f"{self._path}: scan {volume.scan}, {volume.kind}"
        try:
            for block, crc32, data in self._run(volume, range(len(volume.grid))):
                if not isinstance(data, bytes):
                    raise ScanFault(Fault.MISSING, f"block {block}")
                if zlib.crc32(data, self._start(volume, block)) != crc32:
                    raise ScanFault(Fault.CHECKSUM, f"block {block}")
                yield data
        except ScanFault as fault:
            raise ScanFault(fault.fault, f"{place}, {fault.private}") from fault

    @property
    def block_side(self) -> int:
        """Side of the blocks, in voxels."""
        return self._held.side

    def close(self) -> None:
        """Close the file for all threads."""
        super().close()
        self._cache.clear()

    def _found(self, volume: Volume, box: Box) -> Iterator[tuple[Box, bytes]]:
        """Yield each block that a box touches and that is not all zeros: place, filtered bytes."""
        for run in volume.grid.runs(box):
            held = [self._cache.get((volume.scan, volume.kind, block)) for block in run]
            if any(raw is None for raw in held):
                yield from self._unpacked(volume, run)
            else:
                yield from ((volume.grid.box(block), raw) for block, raw in zip(run, held, strict=True) if raw)

    def _unpacked(self, volume: Volume, run: range) -> Iterator[tuple[Box, bytes]]:
        """Read, check and keep the blocks of a run; yield those that are not all zeros; faults say which block."""
        for block, crc32, data in self._run(volume, run):
            here = volume.grid.box(block)
            try:
                raw = self._unpack(volume, block, here.size, crc32, data)
            except ScanFault as fault:
                raise ScanFault(fault.fault, f"block {block}: {fault.private}") from fault
            # Not by the block's key: of two volumes that a damaged file gives the same blocks, one is wrong.
            self._cache.put((volume.scan, volume.kind, block), raw)
            if raw:
                yield here, raw

    def _run(self, volume: Volume, run: range) -> Iterator[tuple[int, Any, Any]]:
        """Yield number, checksum and bytes of each block of a run; none is missing, and none comes twice."""
        wanted = iter(run)
        for key, crc32, data in self._rows(volume.first + run.start, volume.first + run.stop - 1):
            block = next(wanted, None)
            # A damaged tree can also yield rows twice, or more of them than there are.
            if block is None or key != volume.first + block:
                raise ScanFault(Fault.MISSING, f"block {block}")
            yield block, crc32, data
        for block in wanted:
            raise ScanFault(Fault.MISSING, f"block {block}")

    def _rows(self, low: int, high: int) -> Iterator[tuple[Any, Any, Any]]:
        query = "SELECT block, crc32, data FROM blocks WHERE block BETWEEN ? AND ? ORDER BY block"
        try:
            yield from self._connect().rows(query, (low, high))
        except schema.DAMAGE as error:
            raise ScanFault(Fault.UNREADABLE, str(error)) from error

    def sealed(self, scan: Scan) -> tuple[Sequence[Any], str]:
        """Return the cells of `scans` that a scan's SHA-256 covers, and the digest."""
        query = f"SELECT {', '.join(self._held.cells)}, sha256 FROM scans WHERE scan = ?"
        try:
            row: Sequence[Any] | None = next(self._connect().rows(query, (scan.key,)), None)
        except schema.DAMAGE as error:
            raise ScanFault(Fault.UNREADABLE, f"{self._path}: scan {scan.key}: {error}") from error
        if row is None or not all(isinstance(cell, str | int | float) for cell in row):
            raise ScanFault(Fault.UNREADABLE, f"{self._path}: scan {scan.key}: its row is gone or malformed")
        return tuple(row[:-1]), str(row[-1])

    def _seals(self) -> list[tuple[Any, ...]]:
        return list(self._connect().rows("SELECT scan, sha256 FROM scans ORDER BY scan"))

    def _unpack(self, volume: Volume, block: int, size: Triple, crc32: object, data: object) -> bytes:
        if not isinstance(data, bytes) or not isinstance(crc32, int):
            raise ScanFault(Fault.CORRUPT, "cells of the wrong type")
        if not data and volume.foreground[4 * block : 4 * block + 4] != bytes(4):
            raise ScanFault(Fault.TRUNCATED, "no bytes, but voxels that are not zero")
        start, tool = self._start(volume, block), self._tools.decompressor
        return blocks.unpack(data, crc32, size, volume.dtype, tool, volume.codec, start)

    def _start(self, volume: Volume, block: int) -> int:
        """Return what a block's CRC-32 starts from; in schema version 1 it knew nothing of places."""
        return blocks.place(volume.scan, volume.kind, block) if self._held.version > 1 else 0
