"""Reading the peer's table in place: `trendscenter/coinstac-meshnet` keeps whole volumes in one SQLite table.

Table ``mindboggle101``; each row's ``Image`` and its ``GWlabels`` (three classes) or ``label`` is
zlib(float32, little-endian, C order) of a cube, 256^3 in practice. There is no affine, subject, split or class name:

- the affine is the identity at 1 mm, and predictions are in voxel space;
- a row counts as a person, and the split is drawn over rows with a fixed seed, .7 / .2 / the rest;
- `GWlabels` was normalised like an image when it was written: 0, .5, 1 stand for classes 0, 1, 2. Labels that are
  fractions of 1 are multiplied by (classes - 1); whole numbers are taken as they are; a map of only 0 and 1 with more
  than two classes could be either and is refused, as is anything else.

Opening reads every row once, one at a time, because neither a cube's side, its quantiles nor its label scale is stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import MeshNetError, StoreError
from computation.scans.making.split import Fractions, assign
from computation.scans.store import normalise, schema
from computation.scans.store.blocks import Box, Triple
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.guarded import Guarded
from computation.scans.store.opened import OpenFile
from computation.scans.store.records import Scan

__all__ = ["PeerStore"]

_TABLE = "mindboggle101"
_IMAGE = "Image"
_TISSUE = "GWlabels"
_LABELS = (_TISSUE, "label")
_TISSUE_NAMES = ("background", "white matter", "grey matter")
_SPLIT = Fractions(0.7, 0.2, 0.1)
_SPLIT_SEED = 0
_IDENTITY = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
_SCHEME = "quantile"

#: The prototype's cubes are 256^3 and none is larger than 320^3, which is surveyed in less than a gigabyte; one voxel
#: more, which is no cube, is where a decompression bomb is cut off.
_MOST_BYTES = 4 * (320**3 + 1)
_PIECE = 1 << 18
#: Each is inflated when the table is opened.
_MOST_SCANS = 100_000

#: How far from a whole number a label may be once it is scaled: float32 thirds and fifths, not guesses.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Columns:
    """The table and columns to read, each checked against the file's own catalogue, and quoted."""

    table: str
    label: str

    @property
    def _source(self) -> str:
        return f'FROM "{_quoted(self.table)}"'

    def keys(self) -> str:
        return f"SELECT rowid {self._source} ORDER BY rowid"

    def cell(self, column: str) -> str:
        return f'SELECT "{_quoted(column)}" {self._source} WHERE rowid = ?'


@dataclass(frozen=True)
class _Row:
    scan: Scan
    scale: int


class PeerStore(OpenFile):
    """The peer's database, open for reading.

    Parameters
    ----------
    path : Path
        The file.
    tables : tuple of str
        Its tables.
    table : str, optional
        Which one; by default ``mindboggle101``, or the only one that has the peer's columns.
    classes : tuple of str, optional
        Class names; needed for the ``label`` column, whose number of classes is written nowhere.

    Raises
    ------
    StoreError
        If there is no such table, it is empty, or any of its rows is damaged or ambiguous.
    """

    format = "peer"
    normalisation = _SCHEME
    longest = _MOST_BYTES + (1 << 20)  # zlib adds five bytes to each 16 kB that it cannot compress

    def __init__(
        self, path: Path, tables: tuple[str, ...], *, table: str | None = None, classes: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(path)
        with self._opening() as connection:
            self._columns = _columns(connection, tables, table)
            self.label_names = _class_names(self._columns.label, classes)
            self._rows = self._survey(connection)

    def scans(self, split: str | None = None) -> tuple[Scan, ...]:
        """Return the scans, or those of one part of the split, sorted by key."""
        return tuple(row.scan for row in self._rows.values() if split is None or row.scan.split == split)

    def read_image(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the normalised image of a sub-volume; the row is inflated up to the last plane that is needed."""
        values = self._values(scan, _IMAGE, Box(origin, size))
        return normalise.apply(values, 1.0, scan.low, scan.high, _SCHEME)

    def values(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.float32]:
        """Read the image of a sub-volume as the peer stored it; see `read`."""
        return self._values(scan, _IMAGE, Box(origin, size))

    def read_label(self, scan: Scan, origin: Triple, size: Triple) -> NDArray[np.generic]:
        """Read the labels of a sub-volume; see `read`."""
        values = self._values(scan, self._columns.label, Box(origin, size))
        return np.rint(values * self._rows[scan.key].scale).astype(np.uint8)

    def _survey(self, connection: Guarded) -> dict[int, _Row]:
        keys = [key for (key,) in connection.rows(self._columns.keys(), most=_MOST_SCANS)]
        if not keys:
            raise StoreError("the peer's table holds no rows; check which table and file you mean")
        if not all(type(key) is int for key in keys) or len(set(keys)) < len(keys):
            raise StoreError("the keys of the peer's table are no numbers, or one comes twice; restore the file")
        parts = assign([str(key) for key in keys], _SPLIT, _SPLIT_SEED)
        return {key: self._examine(key, parts[str(key)]) for key in keys}

    def _examine(self, key: int, split: str) -> _Row:
        try:
            image = self._whole(key, _IMAGE)
            if not np.isfinite(image).all():
                raise ScanFault(Fault.FINITE, f"row {key}")
            low, high = normalise.constants(image, _SCHEME)
            shape = image.shape
            del image
            label = self._whole(key, self._columns.label)
            if label.shape != shape:
                raise StoreError("image and label have different sizes")
            scale = _scale(label, len(self.label_names))
        except MeshNetError as error:
            raise StoreError(f"row {key} of the peer's table: {error.public}", error.private) from error
        side = int(shape[0])
        scan = Scan(
            key, f"row-{key}", "", split, (side,) * 3, (1.0,) * 3, _IDENTITY, "float32", low, high, labelled=True
        )
        return _Row(scan, scale)

    def _whole(self, key: int, column: str) -> NDArray[np.float32]:
        raw = bytearray()
        for piece in self._inflated(key, column, _MOST_BYTES):
            raw += piece
        side = round((len(raw) / 4) ** (1 / 3))
        if side == 0 or 4 * side**3 != len(raw):
            raise StoreError(f"a volume of {len(raw)} bytes is not a cube of float32", f"column {column}")
        return np.frombuffer(raw, "<f4").reshape(side, side, side)

    def _values(self, scan: Scan, column: str, box: Box) -> NDArray[np.float32]:
        if not box.within(scan.shape):
            raise ScanFault(Fault.OUTSIDE, f"{self._path}: row {scan.key}: {box} of {scan.shape}")
        plane = 4 * scan.shape[1] * scan.shape[2]
        start, stop = box.origin[0] * plane, box.stop[0] * plane
        buffer, passed = bytearray(), 0
        for piece in self._inflated(scan.key, column, stop):
            # Planes before the box are thrown away as they come; only the box's own are held.
            buffer += piece[max(0, start - passed) :]
            passed += len(piece)
        if len(buffer) < stop - start:
            raise ScanFault(Fault.TRUNCATED, f"{self._path}: row {scan.key}, {column}")
        planes = np.frombuffer(buffer, "<f4", (stop - start) // 4).reshape(box.size[0], *scan.shape[1:])
        return planes[Box((0, *box.origin[1:]), box.size).slices()]

    def _inflated(self, key: int, column: str, most: int) -> Iterator[bytes]:
        """Yield the decompressed bytes of a cell in pieces, stopping once `most` have come."""
        try:
            row = next(self._connect().rows(self._columns.cell(column), (key,)), None)
        except schema.DAMAGE as error:
            raise ScanFault(Fault.UNREADABLE, f"row {key}, {column}: {error}") from error
        if row is None or not isinstance(row[0], bytes):
            raise ScanFault(Fault.CORRUPT, f"row {key}, {column}: not a blob")
        try:
            yield from _inflate(memoryview(row[0]), most)
        except zlib.error as error:
            raise ScanFault(Fault.CORRUPT, f"row {key}, {column}: {error}") from error


def _inflate(data: memoryview, most: int) -> Iterator[bytes]:
    stream = zlib.decompressobj()
    total = 0
    for start in range(0, len(data), _PIECE):
        waiting: bytes | memoryview = data[start : start + _PIECE]
        while waiting and total < most:
            piece = stream.decompress(waiting, _PIECE)
            total += len(piece)
            waiting = stream.unconsumed_tail
            yield piece
    if total < most and not stream.eof:
        raise zlib.error("the stream ends too early")


def _columns(connection: Guarded, tables: tuple[str, ...], table: str | None) -> _Columns:
    found = {name: _fitting(connection, name) for name in tables}
    fitting = {name: label for name, label in found.items() if label is not None}
    chosen = table if table is not None else _TABLE if _TABLE in fitting else None
    if chosen is None and len(fitting) == 1:
        chosen = next(iter(fitting))
    if chosen is None and fitting:
        raise StoreError("the database holds several scan tables; name the one to read", ", ".join(fitting))
    label = fitting.get(chosen) if chosen is not None else None
    if chosen is None or label is None:
        text = "neither our schema nor the peer's table (Image with GWlabels or label) is in the database"
        raise StoreError(f"{text}; build one with `coinstac-meshnet import`", ", ".join(tables))
    return _Columns(chosen, label)


def _fitting(connection: Guarded, table: str) -> str | None:
    """Return the label column of a table that has the peer's columns."""
    columns = {str(name) for (name,) in connection.rows("SELECT name FROM pragma_table_info(?)", (table,))}
    labels = [name for name in _LABELS if name in columns]
    return labels[0] if _IMAGE in columns and labels else None


def _quoted(identifier: str) -> str:
    return identifier.replace('"', '""')


def _class_names(column: str, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    if column == _TISSUE:
        if classes is not None and len(classes) != len(_TISSUE_NAMES):
            raise StoreError(f"the peer's {_TISSUE} column has 3 classes, the settings name {len(classes)}")
        return classes or _TISSUE_NAMES
    if classes is None:
        raise StoreError(f"the peer's column {column!r} does not say its classes; name them in the settings")
    return classes


def _scale(label: NDArray[Any], classes: int) -> int:
    """Decide what a label volume must be multiplied by, or refuse."""
    if not np.isfinite(label).all():
        raise StoreError("labels that are NaN or infinite")
    values = np.unique(label)
    low, high = float(values[0]), float(values[-1])
    whole = bool((values == np.rint(values)).all())
    if low < 0 or (whole and high >= classes):
        raise StoreError(f"labels from {low:g} to {high:g}, wanted class numbers 0 to {classes - 1}")
    if whole and high <= 1 and high > 0 and classes > 2:
        raise StoreError(
            f"labels of only 0 and 1 could be class numbers or fractions of {classes - 1}; relabel the row"
        )
    if whole:
        return 1
    scaled = values * (classes - 1)
    if high > 1 or np.abs(scaled - np.rint(scaled)).max() > _TOLERANCE:
        raise StoreError(f"labels are neither class numbers 0 to {classes - 1} nor these divided by {classes - 1}")
    return classes - 1
