"""Writing a scan database: whole or not at all.

Everything goes into a partial file beside the target, without a journal because a failed partial file is deleted;
at the end it is vacuumed into a second one, which is flushed to disk and renamed over the target in one step. (Vacuumed
in place, SQLite would put a copy of the whole file into the system's temporary folder, which may be small or memory.) A
full disk or a killed process leaves the old database as it was. Equal input gives equal bytes on one machine: no time,
host or path is stored.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from computation.checks import is_number
from computation.errors import ImportScanError
from computation.scans.store import blocks, filters, schema
from computation.scans.store.blocks import BlockGrid, Box, Triple
from computation.scans.store.fingerprint import fingerprint
from computation.scans.store.records import Affine, Native, Scan, holds, pack

if TYPE_CHECKING:
    from computation.scans.store.database import SqliteStore

__all__ = ["UNWRITABLE", "Entry", "Header", "Writer", "create"]

#: What is said of a database, or of the folder beside it, that takes no file.
UNWRITABLE = "the scan database cannot be written; check that its folder exists, is writable and has space"


@dataclass(frozen=True)
class Header:
    """Facts about the whole file; `schema.sql` explains each.

    Attributes
    ----------
    label_set : str
        Name of the label set.
    label_names, label_colours : tuple of str
        One per class; colours as ``#rrggbb``.
    normalisation : str
        One of `normalise.SCHEMES`.
    split : mapping
        How subjects were divided.
    provenance : mapping
        Versions and parameters, never a path.
    block_side : int
        Side of the blocks in voxels.
    """

    label_set: str
    label_names: tuple[str, ...]
    label_colours: tuple[str, ...]
    normalisation: str
    split: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    block_side: int = blocks.SIDE


@dataclass(frozen=True, eq=False)
class Entry:
    """One scan to be written.

    Attributes
    ----------
    subject, session, split : str
        Whose scan it is, which visit, and the person's part of the split.
    affine : tuple
        Voxel indices of `image` to RAS+ millimetres.
    low, high : float
        Normalisation constants, in units of ``image * slope``.
    image : ndarray
        Of one of `blocks.DTYPES`.
    label : ndarray of uint8 or int16, or None
        Class numbers, same shape.
    slope : float
        The image's value is ``image * slope``.
    native : Native or None
        The image as it came.
    source : mapping
        SHA-256 of each source file.
    cut : float
        Share of the head that lies outside the grid.
    warnings : tuple of str
        What is odd about the scan.
    stripped : bool or None
        Whether everything outside the brain is 0; None where nobody knows.
    """

    subject: str
    session: str
    split: str
    affine: Affine
    low: float
    high: float
    image: NDArray[Any]
    label: NDArray[Any] | None
    slope: float = 1.0
    native: Native | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    cut: float = 0.0
    warnings: tuple[str, ...] = ()
    stripped: bool | None = None


@contextmanager
def create(path: Path, header: Header, folder: Path | None = None) -> Iterator[Writer]:
    """Write a database; it appears at `path`, replacing what was there, only when the block ends without an error.

    Parameters
    ----------
    path : Path
        The target.
    header : Header
        Facts about the whole file.
    folder : Path, optional
        Where the unfinished file is, on the target's own disk; by default beside the target. What a killed process
        leaves there is for the caller to clear away.

    Yields
    ------
    Writer
        Its `add` takes one scan at a time.

    Raises
    ------
    ImportScanError
        If the target cannot be written or the disk is full.
    """
    partial, packed = (
        (folder or path.parent) / f".{path.name}.{state}-{os.getpid()}" for state in ("partial", "packed")
    )
    try:
        _discard(partial, packed)
        connection = sqlite3.connect(partial, isolation_level=None)
        try:
            writer = Writer(connection, header)
            yield writer
            writer.finish(packed)
        finally:
            connection.close()
        _flush(packed)
        packed.replace(path)
    except (sqlite3.OperationalError, OSError) as error:
        raise ImportScanError(UNWRITABLE, f"{path}: {error}") from error
    finally:
        _discard(partial, packed)


class Writer:
    """An unfinished database; made by `create`."""

    def __init__(self, connection: sqlite3.Connection, header: Header) -> None:
        self._connection = connection
        self._header = header
        self._splits: dict[str, str] = {}
        self._scans = 0
        self._blocks = 0
        # Small pages waste little of the last one of each block: 4096 bytes make the file 6 % larger, and 512 need
        # twice the reads of 1024 and save 1 %.
        # No journal: a failed file is thrown away.
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        schema.create(connection)
        connection.execute("BEGIN")
        for name, value in sorted(asdict(header).items()):
            self.note(name, value)

    def note(self, name: str, value: Any) -> None:
        """Store a fact about the whole file, as JSON."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, pack(value)))

    def add(self, entry: Entry) -> int:
        """Write one scan.

        Parameters
        ----------
        entry : Entry
            The scan; nothing of it is kept.

        Returns
        -------
        int
            Its key.

        Raises
        ------
        ImportScanError
            If the entry does not fit the schema, or its person is already in another part of the split.
        """
        _check(entry, len(self._header.label_names))
        self._enrol(entry.subject, entry.split)
        volumes = [volume for volume in (entry.image, entry.label) if volume is not None]
        cells = _cells(entry)
        self._row(entry.subject, (*cells, fingerprint(cells, volumes)))
        for kind, volume in zip(("image", "label"), volumes, strict=False):
            self._volume(kind, volume, entry.slope if kind == "image" else 1.0)
        return self._scans

    def copy(self, store: SqliteStore, scan: Scan, *, subject: str, split: str) -> int:
        """Write a scan of another database, its blocks as they are, without compressing them again.

        Parameters
        ----------
        store : SqliteStore
            The other database, with blocks of the same side.
        scan : Scan
            One of its scans.
        subject, split : str
            Whose scan it is to be, and the person's part of the split here.

        Returns
        -------
        int
            Its key here.

        Raises
        ------
        ImportScanError
            If it does not fit this database, or its person is already in another part of the split.
        ScanFault
            If a block fails its checksum.
        """
        if store.block_side != self._header.block_side:
            raise ImportScanError("a scan can only be copied between databases with blocks of one side")
        self._enrol(subject, split)
        cells, digest = store.sealed(scan)
        if subject != scan.subject:
            whole = Box((0, 0, 0), scan.shape)
            cells = (subject, *cells[1:])
            digest = fingerprint(cells, [store.stored(scan, volume.kind, whole) for volume in store.volumes(scan)])
        self._row(subject, (*cells, digest))
        for volume in store.volumes(scan):
            for block, data in enumerate(store.packed(volume)):
                crc32 = zlib.crc32(data, blocks.place(self._scans, volume.kind, block))
                self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (self._blocks + block, crc32, data))
            self._described(volume.kind, volume.dtype.name, volume.slope, volume.codec, volume.foreground)
        return self._scans

    def finish(self, packed: Path) -> None:
        """Commit, and write the database without a gap into a file of its own."""
        self._connection.execute("COMMIT")
        # As bytes: a folder's name need not be text.
        self._connection.execute("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(packed),))

    def _enrol(self, subject: str, split: str) -> None:
        if subject not in self._splits:
            try:
                self._connection.execute("INSERT INTO subjects VALUES (?, ?)", (subject, split))
            except sqlite3.IntegrityError as error:
                raise ImportScanError(f"a split is train, valid or test, not {split!r}") from error
            self._splits[subject] = split
        if self._splits[subject] != split:
            parts = f"both {self._splits[subject]} and {split}"
            raise ImportScanError(f"one person's scans are in {parts}; put all of them in one part", subject)

    def _row(self, subject: str, cells: Sequence[str | float]) -> None:
        row = (self._scans + 1, *cells)
        try:
            self._connection.execute(f"INSERT INTO scans VALUES ({','.join('?' * len(row))})", row)
        except sqlite3.IntegrityError as error:
            text = "a subject has two scans of one session; give each scan its own session"
            raise ImportScanError(text, subject) from error
        self._scans += 1

    def _described(self, kind: str, dtype: str, slope: float, codec: str, foreground: bytes) -> None:
        row = (self._scans, kind, dtype, slope, codec, self._blocks, foreground)
        self._connection.execute("INSERT INTO volumes VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._blocks += len(foreground) // 4

    def _volume(self, kind: str, volume: NDArray[Any], slope: float) -> None:
        grid = BlockGrid(_shape(volume), self._header.block_side)
        foreground = np.zeros(len(grid), "<u4")
        codec = filters.codec_of(kind, volume)
        for block in range(len(grid)):
            part = volume[grid.box(block).slices()]
            foreground[block] = np.count_nonzero(part)
            data, crc32 = blocks.encode(part, codec, blocks.place(self._scans, kind, block))
            self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (self._blocks + block, crc32, data))
        self._described(kind, volume.dtype.name, slope, codec, foreground.tobytes())


def _cells(entry: Entry) -> tuple[str | float, ...]:
    """Return the row of `scans` from `subject` to `notes`."""
    native = None if entry.native is None else asdict(entry.native)
    if native is not None and native["millimetres"] == 1:
        del native["millimetres"]  # as in the databases that were made before there were other units
    if native is not None and not native["pixdim"]:
        del native["pixdim"]
    notes = {"cut": entry.cut, "warnings": list(entry.warnings), "stripped": entry.stripped}
    known = (entry.subject, entry.session, pack(_shape(entry.image)), pack(entry.affine), entry.low, entry.high)
    return (*known, pack(native), pack(dict(entry.source)), pack(notes))


def _check(entry: Entry, classes: int) -> None:
    image, label = entry.image, entry.label
    if image.ndim != 3 or 0 in image.shape or image.dtype.name not in blocks.DTYPES:
        raise ImportScanError(f"an image must be 3-D and of {', '.join(blocks.DTYPES)}", f"{image.shape} {image.dtype}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ImportScanError("the image holds voxels that are NaN or infinite; repair it first", entry.subject)
    if not holds(image.shape) or (entry.native is not None and not holds(entry.native.shape)):
        raise ImportScanError("an image may have 4096 voxels a side and 2^28 in all", f"{image.shape} {entry.native}")
    if not all(map(is_number, (entry.low, entry.high, entry.slope))):
        raise ImportScanError("the normalisation constants or the slope are not finite", entry.subject)
    if not entry.subject or not entry.high > entry.low or not entry.slope > 0:
        raise ImportScanError("a scan needs a subject, high above low, and a positive slope", repr(entry.subject))
    if label is None:
        return
    if label.shape != image.shape:
        raise ImportScanError("image and label have different grids", f"{image.shape} and {label.shape}")
    if label.dtype.name not in ("uint8", "int16") or label.min() < 0 or label.max() >= classes:
        raise ImportScanError(f"labels must be uint8 or int16 class numbers 0 to {classes - 1}", entry.subject)


def _shape(volume: NDArray[Any]) -> Triple:
    i, j, k = volume.shape
    return (i, j, k)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _discard(*unfinished: Path) -> None:
    """Remove what is not the database: after success the rename has already taken that."""
    for path in unfinished:
        for name in (path, path.with_name(f"{path.name}-journal")):
            name.unlink(missing_ok=True)
