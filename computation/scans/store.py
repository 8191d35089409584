"""Reading a scan database: sub-volumes by box, from only the blocks that they touch.

The tables are documented in `schema.sql`. A file is opened read-only and immutable; every thread gets its own
connection and decompressor, so one store may be opened in one thread and read in others. No query ever fetches more
than one run of blocks. Blocks that were decoded last are kept, within a limit in bytes; those of zeros cost nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from computation.checks import is_number
from computation.errors import MeshNetError, StoreError
from computation.scans import blocks, filters, normalise, schema
from computation.scans.blocks import BlockGrid, Box, Triple
from computation.scans.cache import BlockCache
from computation.scans.faults import Fault, ScanFault
from computation.scans.fingerprint import fingerprint
from computation.scans.peer import PeerStore
from computation.scans.records import SPLITS, Native, Scan, affine_of, spacing_of, triple_of, unpack

__all__ = ["CACHE_BYTES", "SqliteStore", "Store", "Volume", "open_store"]

#: How many bytes of decoded blocks are kept unless the caller says otherwise: the heads of two or three scans.
CACHE_BYTES = 16 << 20

#: How many blocks are decoded in one sweep: a megabyte of uint8 voxels, which a processor's cache holds.
_TOGETHER = 32

_COLUMNS = ("scan", "subject", "session", "split", "shape", "affine", "low", "high", "native")

#: The cells that a scan's SHA-256 covers, in schema version 1; later versions added columns at the end.
_SEALED = ("subject", "session", "shape", "affine", "low", "high", "native", "source")


class Store(Protocol):
    """A source of scans; our database and the peer's table both are one."""

    format: str

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; a label voxel's value is an index into them."""

    @property
    def normalisation(self) -> str:
        """The scheme that `read` applies; one of `normalise.SCHEMES`."""

    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""

    def read(self, scan: Scan, origin: Triple, size: Triple) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
        """Read the normalised image of a sub-volume, and its labels if the scan has any."""

    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume."""

    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume."""

    def close(self) -> None:
        """Close the file for all threads."""

    def __enter__(self) -> Store: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_store(
    path: Path | str,
    *,
    table: str | None = None,
    classes: tuple[str, ...] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open a scan database, whichever kind it is.

    Parameters
    ----------
    path : Path
        A database of ours, or one with the peer's table.
    table : str, optional
        Which table of a peer's database; by default ``mindboggle101`` or the only one that fits.
    classes : tuple of str, optional
        The peer's table does not name its classes; this does, where its column alone cannot tell.
    cache_bytes : int
        How many bytes of decoded blocks may be kept; not used for a peer's database.

    Returns
    -------
    Store
        Close it, or use it as a context manager.

    Raises
    ------
    StoreError
        If the file is missing, unreadable, not SQLite, of another schema version, damaged, or holds no scans table.
    """
    path = Path(path)
    connection = schema.connect(path)
    try:
        ours = schema.version(connection) is not None
        names = schema.tables(connection)
    except schema.DAMAGE as error:
        raise StoreError("the scan database is damaged; restore it or import again", f"{path}: {error}") from error
    except StoreError as error:
        raise StoreError(error.public, str(path)) from error
    finally:
        connection.close()
    if ours and table is None:
        return SqliteStore(path, cache_bytes)
    return PeerStore(path, names, table=table, classes=classes)


@dataclass(frozen=True)
class Volume:
    """Where a scan's image or label lies: its type, its codec, its grid of blocks and the key of the first."""

    scan: int
    kind: str
    dtype: np.dtype[np.generic]
    slope: float
    codec: str
    first: int
    grid: BlockGrid
    foreground: bytes


class _Session(threading.local):
    """One thread's connection and decompressor."""

    connection: sqlite3.Connection | None = None
    decompressor: zstandard.ZstdDecompressor


class SqliteStore:
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
        self._path = path
        self._cache = BlockCache(cache_bytes)
        self._session = _Session()
        self._guard = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        try:
            self._load(self._connect())
        except schema.DAMAGE as error:
            self.close()
            raise StoreError("the scan database is damaged; restore it or import again", f"{path}: {error}") from error
        except MeshNetError as error:
            self.close()
            raise StoreError(error.public, f"{path}: {error.private}") from error

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; a label voxel's value is an index into them."""
        return self._names

    @property
    def normalisation(self) -> str:
        """The scheme that `read` applies."""
        return self._scheme

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the whole file, as `schema.sql` lists them."""
        return dict(self._meta)

    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""
        return tuple(scan for scan in self._scans if split is None or scan.split == split)

    def read(self, scan: Scan, origin: Triple, size: Triple) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
        """Read a sub-volume.

        Parameters
        ----------
        scan : Scan
            One of this store's `scans()`.
        origin, size : tuple of int
            First voxel, and number of voxels along each axis.

        Returns
        -------
        image : ndarray of float32, shape `size`
            Normalised.
        label : ndarray of uint8 or int16, shape `size`, or None
            None if the scan has no label map.

        Raises
        ------
        ScanFault
            If the box lies outside, a block is missing or damaged, or the voxels are not what they should be.
        """
        label = self.read_label(scan, origin, size) if scan.labelled else None
        return self.read_image(scan, origin, size), label

    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume; see `read`."""
        stored = self.stored(scan, "image", Box(origin, size))
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise ScanFault(Fault.FINITE, f"{self._path}: scan {scan.key} ({scan.subject})")
        volume = self._volumes[scan.key, "image"]
        return normalise.apply(stored, volume.slope, scan.low, scan.high, self._scheme)

    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume; see `read`."""
        if not scan.labelled:
            raise ScanFault(Fault.UNLABELLED, f"{self._path}: scan {scan.key} ({scan.subject})")
        label = self.stored(scan, "label", Box(origin, size))
        low, high = int(label.min()), int(label.max())
        if low < 0 or high >= len(self._names):
            found = f"values {low} to {high}, classes 0 to {len(self._names) - 1}"
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
        volume = self._volumes[scan.key, kind]
        if not box.within(volume.grid.shape):
            raise ScanFault(Fault.OUTSIDE, f"{self._path}: scan {scan.key}: {box} of {volume.grid.shape}")
        voxels: NDArray[Any] = np.zeros(box.size, volume.dtype)
        try:
            for here, part in self._decoded(volume, box):
                shared = box.meet(here)
                voxels[shared.slices(box.origin)] = part[shared.slices(here.origin)]
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
        volume = self._volumes[scan.key, "label" if scan.labelled else "image"]
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
        kinds = [kind for kind in ("image", "label") if (scan.key, kind) in self._volumes]
        volumes = [self.stored(scan, kind, whole) for kind in kinds]
        cells, stored = self.sealed(scan)
        if (found := fingerprint(cells, volumes)) != stored:
            place = f"{self._path}: scan {scan.key} ({scan.subject})"
            raise ScanFault(Fault.CHECKSUM, f"{place}: SHA-256 {found}, stored {stored}")
        for kind, volume in zip(kinds, volumes, strict=True):
            index = np.frombuffer(self._volumes[scan.key, kind].foreground, "<u4")
            if int(index.sum()) != np.count_nonzero(volume):
                raise ScanFault(Fault.CHECKSUM, f"{self._path}: scan {scan.key} ({scan.subject}): {kind} foreground")

    def volumes(self, scan: Scan) -> tuple[Volume, ...]:
        """Return where a scan's image and, if it has one, its label map lie."""
        kinds = ("image", "label") if scan.labelled else ("image",)
        return tuple(self._volumes[scan.key, kind] for kind in kinds)

    def source(self, scan: Scan) -> dict[str, Any]:
        """Return the SHA-256 of each file that a scan was made from."""
        cells, _ = self.sealed(scan)
        found = unpack(cells[_SEALED.index("source")], "source")
        return found if isinstance(found, dict) else {}

    def packed(self, volume: Volume) -> Iterator[bytes]:
        """Yield a volume's blocks as they are stored, in order.

        Raises
        ------
        ScanFault
            If a block is missing or fails its checksum.
        """
        wanted = iter(range(len(volume.grid)))
        for key, crc32, data in self._rows(volume.first, volume.first + len(volume.grid) - 1):
            block = next(wanted)
            if key != volume.first + block or not isinstance(data, bytes):
                raise ScanFault(Fault.MISSING, f"{self._path}: scan {volume.scan}, {volume.kind}, block {block}")
            if zlib.crc32(data, self._start(volume, block)) != crc32:
                raise ScanFault(Fault.CHECKSUM, f"{self._path}: scan {volume.scan}, {volume.kind}, block {block}")
            yield data
        for block in wanted:
            raise ScanFault(Fault.MISSING, f"{self._path}: scan {volume.scan}, {volume.kind}, block {block}")

    @property
    def block_side(self) -> int:
        """Side of the blocks, in voxels."""
        return self._side

    def close(self) -> None:
        """Close the file for all threads."""
        with self._guard:
            self._closed = True
            self._cache.clear()
            while self._connections:
                self._connections.pop().close()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        if self._session.connection is None:
            with self._guard:
                if self._closed:
                    raise StoreError("the scan database has already been closed", str(self._path))
                self._session.connection = schema.connect(self._path)
                self._session.decompressor = zstandard.ZstdDecompressor()
                self._connections.append(self._session.connection)
        return self._session.connection

    def _decoded(self, volume: Volume, box: Box) -> Iterator[tuple[Box, NDArray[np.generic]]]:
        """Yield each block that a box touches and that is not all zeros; faults say which block."""
        raws: dict[Triple, list[tuple[int, Box, bytes]]] = {}
        for run in volume.grid.runs(box):
            held = [self._cache.get(volume.first + block) for block in run]
            if all(part is not None for part in held):
                boxes = (volume.grid.box(block) for block in run)
                yield from ((here, part) for here, part in zip(boxes, held, strict=True) if part is not None)
                continue
            for block, here, raw in self._unpacked(volume, run):
                raws.setdefault(here.size, []).append((block, here, raw))
        for size, found in raws.items():
            for first in range(0, len(found), _TOGETHER):
                some = found[first : first + _TOGETHER]
                parts = filters.undo(volume.codec, [raw for *_, raw in some], size, volume.dtype)
                for (block, here, _), part in zip(some, parts, strict=True):
                    if self._cache.limit:
                        # A copy: a view would keep all blocks that were decoded with it.
                        self._cache.put(volume.first + block, part.copy())
                    yield here, part

    def _unpacked(self, volume: Volume, run: range) -> Iterator[tuple[int, Box, bytes]]:
        """Yield each block of a run that is not all zeros: number, place, filtered bytes."""
        wanted = iter(run)
        for key, crc32, data in self._rows(volume.first + run.start, volume.first + run.stop - 1):
            block = next(wanted)
            if key != volume.first + block:
                raise ScanFault(Fault.MISSING, f"block {block}")
            here = volume.grid.box(block)
            try:
                raw = self._unpack(volume, block, here.size, crc32, data)
            except ScanFault as fault:
                raise ScanFault(fault.fault, f"block {block}: {fault.private}") from fault
            if raw:
                yield block, here, raw
            else:
                self._cache.put(key, _nothing(here.size, volume.dtype))
        for block in wanted:
            raise ScanFault(Fault.MISSING, f"block {block}")

    def _rows(self, low: int, high: int) -> Iterator[tuple[Any, Any, Any]]:
        query = "SELECT block, crc32, data FROM blocks WHERE block BETWEEN ? AND ? ORDER BY block"
        try:
            yield from self._connect().execute(query, (low, high))
        except schema.DAMAGE as error:
            raise ScanFault(Fault.UNREADABLE, str(error)) from error

    def sealed(self, scan: Scan) -> tuple[Sequence[Any], str]:
        """Return the cells of `scans` that a scan's SHA-256 covers, and the digest."""
        query = f"SELECT {', '.join(self._cells)}, sha256 FROM scans WHERE scan = ?"
        try:
            row: Sequence[Any] | None = self._connect().execute(query, (scan.key,)).fetchone()
        except schema.DAMAGE as error:
            raise ScanFault(Fault.UNREADABLE, f"{self._path}: scan {scan.key}: {error}") from error
        if row is None or not all(isinstance(cell, str | int | float) for cell in row):
            raise ScanFault(Fault.UNREADABLE, f"{self._path}: scan {scan.key}: its row is gone or malformed")
        return tuple(row[:-1]), str(row[-1])

    def _unpack(self, volume: Volume, block: int, size: Triple, crc32: object, data: object) -> bytes:
        if not isinstance(data, bytes) or not isinstance(crc32, int):
            raise ScanFault(Fault.CORRUPT, "cells of the wrong type")
        if not data and volume.foreground[4 * block : 4 * block + 4] != bytes(4):
            raise ScanFault(Fault.TRUNCATED, "no bytes, but voxels that are not zero")
        start, tool = self._start(volume, block), self._session.decompressor
        return blocks.unpack(data, crc32, size, volume.dtype, tool, volume.codec, start)

    def _start(self, volume: Volume, block: int) -> int:
        """Return what a block's CRC-32 starts from; in schema version 1 it knew nothing of places."""
        return blocks.place(volume.scan, volume.kind, block) if self._version > 1 else 0

    def _load(self, connection: sqlite3.Connection) -> None:
        self._version = schema.version(connection) or 0
        self._cells = _SEALED if self._version == 1 else (*_SEALED, "notes")
        rows = connection.execute("SELECT name, value FROM meta")
        self._meta = {str(name): unpack(value, str(name)) for name, value in rows}
        self._names = _names_of(self._meta.get("label_names"))
        self._scheme = _scheme_of(self._meta.get("normalisation"))
        self._side = triple_of([self._meta.get("block_side")] * 3, "block_side")[0]
        columns = _COLUMNS if self._version == 1 else (*_COLUMNS, "notes")
        query = f"SELECT {', '.join(columns)} FROM scans JOIN subjects USING (subject) ORDER BY scan"
        scans = [_scan_of(dict(zip(columns, row, strict=True))) for row in connection.execute(query)]
        shapes = {scan.key: scan.shape for scan in scans}
        query = "SELECT scan, kind, dtype, slope, codec, first, foreground FROM volumes ORDER BY scan, kind"
        self._volumes: dict[tuple[int, str], Volume] = {}
        for key, kind, *row in connection.execute(query):
            self._volumes[key, kind] = _volume_of(key, shapes.get(key), self._side, kind, row)
        self._scans = tuple(self._complete(scan) for scan in scans)

    def _complete(self, scan: Scan) -> Scan:
        image = self._volumes.get((scan.key, "image"))
        if image is None:
            raise StoreError("the scan database holds a scan without an image; import the scans again")
        return replace(scan, dtype=image.dtype.name, labelled=(scan.key, "label") in self._volumes)


def _nothing(size: Triple, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return zeros that take the room of one voxel."""
    return np.broadcast_to(np.zeros((), dtype), size)


def _names_of(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, list) else ()
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise StoreError("the scan database holds a malformed label_names; import the scans again", repr(value)[:200])
    return names


def _scheme_of(value: Any) -> str:
    if value not in normalise.SCHEMES:
        raise StoreError("the scan database names an unknown normalisation; update this software", repr(value)[:200])
    return str(value)


def _scan_of(row: dict[str, Any]) -> Scan:
    affine = affine_of(unpack(row["affine"], "affine"))
    low, high = row["low"], row["high"]
    if row["split"] not in SPLITS or not is_number(low) or not is_number(high) or not high > low:
        raise StoreError("the scan database holds a malformed scan; import the scans again", f"scan {row['scan']}")
    return Scan(
        key=int(row["scan"]),
        subject=str(row["subject"]),
        session=str(row["session"]),
        split=str(row["split"]),
        shape=triple_of(unpack(row["shape"], "shape")),
        spacing=spacing_of(affine),
        affine=affine,
        dtype="",
        low=float(low),
        high=float(high),
        labelled=False,
        native=_native_of(unpack(row["native"], "native")),
        **_notes_of(unpack(row.get("notes", "{}"), "notes")),
    )


def _notes_of(value: Any) -> dict[str, Any]:
    notes = value if isinstance(value, dict) else {"cut": None}
    cut: Any = notes.get("cut", 0.0)
    warnings: Any = notes.get("warnings", [])
    if not is_number(cut) or not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        raise StoreError("the scan database holds malformed notes; import the scans again", repr(value)[:200])
    return {"cut": cut, "warnings": tuple(warnings)}


def _native_of(value: Any) -> Native | None:
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    codes = [fields.get(name, 0) for name in ("sform_code", "qform_code")]
    if not all(type(code) is int for code in codes):
        raise StoreError("the scan database holds a malformed native header; import the scans again")
    shape, affine = triple_of(fields.get("shape"), "native shape"), affine_of(fields.get("affine"))
    qform = None if fields.get("qform") is None else affine_of(fields["qform"])
    return Native(shape, affine, codes[0], codes[1], str(fields.get("units", "mm")), qform)


def _volume_of(scan: int, shape: Triple | None, side: int, kind: str, row: list[Any]) -> Volume:
    dtype, slope, codec, first, foreground = row
    grid = BlockGrid(shape or (1, 1, 1), side)
    counts = isinstance(foreground, bytes) and len(foreground) == 4 * len(grid)
    usual = dtype in blocks.DTYPES and codec in blocks.CODECS and type(first) is int
    if shape is None or not counts or not usual or not is_number(slope) or not slope > 0:
        raise StoreError("the scan database holds a malformed volume; import the scans again", f"{kind} {row[:4]}")
    if kind == "label" and dtype not in ("uint8", "int16"):
        raise StoreError("the scan database holds labels of a wrong type; import the scans again", str(dtype))
    return Volume(scan, kind, np.dtype(dtype), float(slope), codec, first, grid, foreground)
