"""What a scan database says about itself: its facts, its scans and where their volumes lie, checked cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from computation.checks import is_number
from computation.errors import StoreError
from computation.scans.store import blocks, normalise, schema
from computation.scans.store.blocks import BlockGrid, Triple
from computation.scans.store.guarded import Guarded
from computation.scans.store.records import SPLITS, UNITS, Native, Scan, affine_of, spacing_of, triple_of, unpack

__all__ = ["SEALED", "Catalogue", "Volume", "load"]

#: The cells that a scan's SHA-256 covers, in schema version 1; later versions added columns at the end.
SEALED = ("subject", "session", "shape", "affine", "low", "high", "native", "source")

#: Facts about a file, and characters in one of them or in a scan's row: the rows that an import left out are many.
_MOST_FACTS = 100
_LONGEST_TEXT = 16 << 20
#: Keys of blocks stay below this, so that none computed from them is more than SQLite's whole numbers hold.
_MOST_BLOCKS = 1 << 62

_COLUMNS = ("scan", "subject", "session", "split", "shape", "affine", "low", "high", "native")


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


@dataclass(frozen=True)
class Catalogue:
    """Everything in a database but voxels.

    Attributes
    ----------
    version : int
        The file's schema version.
    meta : dict
        Facts about the whole file, as `schema.sql` lists them.
    label_names : tuple of str
        Names of the classes.
    normalisation : str
        One of `normalise.SCHEMES`.
    side : int
        Side of the blocks, in voxels.
    scans : tuple of Scan
        Sorted by key.
    volumes : dict
        By scan key and kind.
    """

    version: int
    meta: dict[str, Any]
    label_names: tuple[str, ...]
    normalisation: str
    side: int
    scans: tuple[Scan, ...]
    volumes: dict[tuple[int, str], Volume]

    @property
    def cells(self) -> Sequence[str]:
        """Names of the cells of ``scans`` that a scan's SHA-256 covers."""
        return SEALED if self.version == 1 else (*SEALED, "notes")

    def volumes_of(self, scan: Scan) -> tuple[Volume, ...]:
        """Return where a scan's image and, if it has one, its label map lie."""
        kinds = ("image", "label") if scan.labelled else ("image",)
        return tuple(self.volumes[scan.key, kind] for kind in kinds)


def load(connection: Guarded) -> Catalogue:
    """Read a database's tables, all but the blocks.

    Raises
    ------
    StoreError
        If they do not say what the schema wants.
    """
    version = schema.version(connection) or 0
    meta = _meta_of(connection)
    side = _side_of(meta.get("block_side"))
    columns = _COLUMNS if version == 1 else (*_COLUMNS, "notes")
    query = f"SELECT {', '.join(columns)} FROM scans JOIN subjects USING (subject) ORDER BY scan"
    scans: dict[int, Scan] = {}
    for row in connection.rows(query, longest=_LONGEST_TEXT):
        scan = _scan_of(dict(zip(columns, row, strict=True)))
        # At once: damaged pages can lead back to themselves, and the same rows come for ever.
        if scan.key in scans:
            raise StoreError("the scan database lists a scan twice; import the scans again")
        scans[scan.key] = scan
    query = "SELECT scan, kind, dtype, slope, codec, first, foreground FROM volumes ORDER BY scan, kind"
    volumes: dict[tuple[int, str], Volume] = {}
    for key, kind, *cells in connection.rows(query):
        if (key, kind) in volumes:
            raise StoreError("the scan database lists a volume twice; import the scans again")
        volumes[key, kind] = _volume_of(key, scans[key].shape if key in scans else None, side, kind, cells)
    names, scheme = _names_of(meta.get("label_names")), _scheme_of(meta.get("normalisation"))
    complete = tuple(_complete(scan, volumes) for scan in scans.values())
    return Catalogue(version, meta, names, scheme, side, complete, volumes)


def _meta_of(connection: Guarded) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    for name, value in connection.rows("SELECT name, value FROM meta", most=_MOST_FACTS, longest=_LONGEST_TEXT):
        if not isinstance(name, str) or name in meta:
            raise StoreError("the scan database lists a fact twice; import the scans again", repr(name)[:200])
        meta[name] = unpack(value, name)
    return meta


def _side_of(value: Any) -> int:
    """Check the side of the blocks: what one sub-volume costs to read grows with its cube."""
    if type(value) is not int or not 1 <= value <= blocks.LONGEST_SIDE:
        text = f"the scan database holds a malformed block_side; wanted 1 to {blocks.LONGEST_SIDE}; import again"
        raise StoreError(text, repr(value)[:200])
    return value


def _complete(scan: Scan, volumes: dict[tuple[int, str], Volume]) -> Scan:
    image = volumes.get((scan.key, "image"))
    if image is None:
        raise StoreError("the scan database holds a scan without an image; import the scans again")
    return replace(scan, dtype=image.dtype.name, labelled=(scan.key, "label") in volumes)


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
    key, low, high = row["scan"], row["low"], row["high"]
    # The schema sees to whole keys, but a file may come with tables of its own.
    sound = type(key) is int and row["split"] in SPLITS
    if not sound or not is_number(low) or not is_number(high) or not high > low:
        raise StoreError("the scan database holds a malformed scan; import the scans again", f"scan {key!r}"[:200])
    return Scan(
        key=key,
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
    stripped: Any = notes.get("stripped")
    told = isinstance(warnings, list) and all(isinstance(text, str) for text in warnings)
    if not is_number(cut) or not told or not (stripped is None or isinstance(stripped, bool)):
        raise StoreError("the scan database holds malformed notes; import the scans again", repr(value)[:200])
    return {"cut": cut, "warnings": tuple(warnings), "stripped": stripped}


def _native_of(value: Any) -> Native | None:
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    codes = [fields.get(name, 0) for name in ("sform_code", "qform_code")]
    if not all(type(code) is int for code in codes):
        raise StoreError("the scan database holds a malformed native header; import the scans again")
    shape, affine = triple_of(fields.get("shape"), "native shape"), affine_of(fields.get("affine"))
    qform = None if fields.get("qform") is None else affine_of(fields["qform"])
    length = fields.get("millimetres", 1.0)
    if not is_number(length) or length not in UNITS.values():
        raise StoreError("the scan database holds a malformed native unit; import the scans again", repr(length)[:200])
    forms = (codes[0], codes[1], str(fields.get("units", "mm")), qform, float(length))
    return Native(shape, affine, *forms, _pixdim_of(fields.get("pixdim", [])))


def _pixdim_of(value: Any) -> tuple[float, ...]:
    if isinstance(value, list) and len(value) in (0, 4) and all(map(is_number, value)):
        return tuple(map(float, value))
    raise StoreError("the scan database holds a malformed native header; import the scans again", repr(value)[:200])


def _volume_of(scan: int, shape: Triple | None, side: int, kind: str, row: list[Any]) -> Volume:
    dtype, slope, codec, first, foreground = row
    grid = BlockGrid(shape or (1, 1, 1), side)
    counts = isinstance(foreground, bytes) and len(foreground) == 4 * len(grid)
    usual = dtype in blocks.DTYPES and codec in blocks.CODECS and type(first) is int and 0 <= first < _MOST_BLOCKS
    if shape is None or not counts or not usual or not is_number(slope) or not slope > 0:
        raise StoreError("the scan database holds a malformed volume; import the scans again", f"{kind} {row[:4]}")
    if kind == "label" and dtype not in ("uint8", "int16"):
        raise StoreError("the scan database holds labels of a wrong type; import the scans again", str(dtype))
    return Volume(scan, kind, np.dtype(dtype), float(slope), codec, first, grid, foreground)
