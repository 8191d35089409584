"""From a table of image and label files to a scan database.

A scan that cannot be used is left out, listed with the reason, and noted in the database; the others are taken. One
scan is in memory at a time.
"""

from __future__ import annotations

import csv
import platform
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from computation import __version__
from computation.errors import ImportScanError
from computation.scans import images, labels, normalise, split, writer
from computation.scans.conform import Conformed, Target, conform
from computation.scans.labels import LabelSet
from computation.scans.records import SPLITS, Native
from computation.scans.split import Fractions

__all__ = ["ImportSummary", "LeftOut", "Progress", "Row", "Taken", "import_table", "read_table", "versions"]

#: Called after each scan with how many are done, how many there are, and the subject.
Progress = Callable[[int, int, str], None]

_NEEDED = ("subject", "image", "label")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    subject: str
    session: str
    split: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Taken:
    """A scan that entered the database.

    Attributes
    ----------
    subject, session, split : str
        Whose, which visit, and which part of the split.
    cut : float
        Share of its labelled voxels that lies outside the grid; anything above 0 deserves a look.
    """

    subject: str
    session: str
    split: str
    cut: float


@dataclass(frozen=True)
class LeftOut:
    """A scan that did not enter the database, and why."""

    subject: str
    session: str
    reason: str


@dataclass(frozen=True)
class ImportSummary:
    """What an import did with every row of its table."""

    taken: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Scans taken in each part of the split."""
        found = Counter(scan.split for scan in self.taken)
        return {part: found[part] for part in SPLITS}


def import_table(
    table: Path,
    database: Path,
    *,
    spacing: float | Sequence[float] | None = 1.0,
    grid: int | Sequence[int] | None = 256,
    label_set: str = "gwm-white1-grey2",
    normalisation: str = "quantile",
    storage: str = images.STORAGES[0],
    fractions: Fractions = Fractions(),  # noqa: B008 - frozen
    seed: int = 0,
    where: Mapping[str, str] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Build a scan database from NIfTI or .mgz files.

    Parameters
    ----------
    table : Path
        CSV or TSV with the columns ``subject``, ``image`` and ``label``, and optionally ``session`` and ``split``.
        Relative paths start at the table's own folder. An empty label means that the scan has none.
    database : Path
        The file to write. It appears only when all scans are in it.
    spacing : float or three floats or None
        Millimetres between voxels; None keeps each image's own.
    grid : int or three ints or None
        Voxels along each axis; None keeps each image's field of view.
    label_set : str
        See `labels.named`.
    normalisation : str
        One of `normalise.SCHEMES`.
    storage : str
        One of `images.STORAGES`; see `images.storable`.
    fractions : Fractions
        Sizes of train, valid and test where the table has no ``split`` column.
    seed : int
        Of the split.
    where : mapping, optional
        Take only rows with these values in these columns.
    strict : bool
        Refuse the whole import at the first scan that cannot be used.
    overwrite : bool
        Replace an existing database.
    progress : callable, optional
        Called after each scan.

    Returns
    -------
    ImportSummary

    Raises
    ------
    ImportScanError
        If the table, an option or the target is wrong, if no scan at all can be used, or, with `strict`, if one
        cannot.
    """
    if database.exists() and not overwrite:
        raise ImportScanError("the database exists already; choose another name or ask to replace it", str(database))
    if normalisation not in normalise.SCHEMES:
        raise ImportScanError(f"normalisation {normalisation!r} is unknown; choose from {', '.join(normalise.SCHEMES)}")
    target = Target(_three(spacing, float), _three(grid, int))
    chosen = labels.named(label_set)
    rows = read_table(table, where or {})
    parts, how = _split(rows, fractions, seed)
    parameters = {"target": asdict(target), "label_set": f"{chosen.name}:{chosen.source}", "storage": storage}
    header = writer.Header(
        label_set=chosen.name,
        label_names=chosen.names,
        label_colours=chosen.colours,
        normalisation=normalisation,
        split=how,
        provenance={"versions": versions(), "parameters": parameters},
    )
    with writer.create(database, header) as out:
        summary = _take_all(out, rows, parts, target, chosen, normalisation, storage, strict, progress)
        out.note("skipped", [asdict(scan) for scan in summary.left_out])
    return summary


def read_table(table: Path, where: Mapping[str, str]) -> tuple[Row, ...]:
    """Read a table of scans.

    Parameters
    ----------
    table : Path
        As in `import_table`.
    where : mapping
        Values that a row must have in certain columns; empty takes all rows.

    Returns
    -------
    tuple of Row

    Raises
    ------
    ImportScanError
        If the table cannot be read, lacks a column or a cell, has no rows, or names a scan twice.
    """
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportScanError(
            "the table cannot be read; wanted a CSV or TSV file in UTF-8", f"{table}: {error}"
        ) from error
    lines = text.splitlines()
    reader = csv.DictReader(lines, delimiter="\t" if "\t" in (lines or [""])[0] else ",", skipinitialspace=True)
    columns = tuple(name.strip() for name in reader.fieldnames or ())
    missing = [name for name in (*_NEEDED, *where) if name not in columns]
    if missing:
        raise ImportScanError(f"the table has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    reader.fieldnames = columns
    cells = [{name: (value or "").strip() for name, value in line.items() if name} for line in reader]
    rows = [_row(line, table.parent) for line in cells if all(line[name] == value for name, value in where.items())]
    _check_rows(rows)
    return tuple(rows)


def versions() -> dict[str, str]:
    """Return the versions of everything that had a hand in an import."""
    packages = {name: version(name) for name in ("nibabel", "numpy", "scipy", "zstandard")}
    own = {"coinstac-meshnet": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {**own, **packages}


def _row(line: Mapping[str, str], folder: Path) -> Row:
    if not line["subject"] or not line["image"]:
        raise ImportScanError("a row of the table lacks its subject or image", str(dict(line)))
    label = folder / line["label"] if line["label"] else None
    return Row(line["subject"], line.get("session", ""), line.get("split", ""), folder / line["image"], label)


def _check_rows(rows: Sequence[Row]) -> None:
    if not rows:
        raise ImportScanError("the table has no rows to import")
    twice = [scan for scan, count in Counter((row.subject, row.session) for row in rows).items() if count > 1]
    if twice:
        text = f"{len(twice)} scans are in the table twice; give each scan of a subject its own session"
        raise ImportScanError(text, "; ".join(" ".join(scan).strip() for scan in twice[:8]))


def _split(rows: Sequence[Row], fractions: Fractions, seed: int) -> tuple[Mapping[str, str], dict[str, Any]]:
    if any(row.split for row in rows):
        return split.given((row.subject, row.split) for row in rows), {"by": "table"}
    how = {"by": "subject", "fractions": list(astuple(fractions)), "seed": seed}
    return split.assign((row.subject for row in rows), fractions, seed), how


def _take_all(
    out: writer.Writer,
    rows: Sequence[Row],
    parts: Mapping[str, str],
    target: Target,
    chosen: LabelSet,
    scheme: str,
    storage: str,
    strict: bool,
    progress: Progress | None,
) -> ImportSummary:
    taken: list[Taken] = []
    left_out: list[LeftOut] = []
    for done, row in enumerate(rows, 1):
        part = parts[row.subject]
        try:
            cut = _take(out, row, part, target, chosen, scheme, storage)
            taken.append(Taken(row.subject, row.session, part, cut))
        except ImportScanError as error:
            if strict:
                raise
            left_out.append(LeftOut(row.subject, row.session, error.public))
        if progress is not None:
            progress(done, len(rows), row.subject)
    if not taken:
        raise ImportScanError(f"none of {len(rows)} scans can be used: {left_out[0].reason}", left_out[0].subject)
    return ImportSummary(tuple(taken), tuple(left_out))


def _take(
    out: writer.Writer, row: Row, part: str, target: Target, chosen: LabelSet, scheme: str, storage: str
) -> float:
    """Write one scan and return the share of it that the grid cuts off."""
    image = images.load(row.image)
    label = None if row.label is None else images.load(row.label)
    files = {"image": row.image} if row.label is None else {"image": row.image, "label": row.label}
    source = {kind: images.checksum(path) for kind, path in files.items()}
    scan = conform(image, label, target)
    out.add(_entry(row, part, scan, chosen, scheme, storage, images.native(image), source))
    return scan.cut


def _entry(
    row: Row,
    part: str,
    scan: Conformed,
    chosen: LabelSet,
    scheme: str,
    storage: str,
    native: Native,
    source: Mapping[str, str],
) -> writer.Entry:
    low, high = normalise.constants(scan.image, scheme)
    stored, slope = images.storable(scan.image, storage)
    return writer.Entry(
        subject=row.subject,
        session=row.session,
        split=part,
        affine=scan.affine,
        low=low,
        high=high,
        image=stored,
        label=None if scan.label is None else chosen.apply(scan.label),
        slope=slope,
        native=native,
        source=source,
    )


def _three(value: Any, kind: Callable[[Any], Any]) -> Any:
    """Spread one side or spacing over three axes."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(sides) != 3:
        raise ImportScanError(f"wanted one or three numbers, found {len(sides)}")
    return tuple(kind(side) for side in sides)
