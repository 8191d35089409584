"""Where the files of an import are listed: a table, a FreeSurfer `SUBJECTS_DIR`, or a BIDS dataset with derivatives.

Each reader returns rows and, with the reason, what it left out because it would have had to guess. The BIDS reader is a
hundred lines of our own rather than pybids, which brings a database, a formula parser and some twenty packages along
for what is here one question: which T1w has which dseg.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from computation.checks import parse_json
from computation.errors import ImportScanError
from computation.printable import plain
from computation.scans.making import folders

__all__ = ["LeftOut", "Listing", "Row", "bids", "freesurfer", "table"]

_NEEDED = ("subject", "image", "label")
_BIDS_NAME = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(.+))?")

#: Entities that BIDS lets a derivative add to those of the image that it comes from.
_DERIVED = ("desc", "space", "seg", "atlas", "label", "res", "den")

#: Average brains that FreeSurfer puts beside the subjects.
_TEMPLATES = ("fsaverage", "cvs_avg35", "V1_average", "lh.EC_average", "rh.EC_average")


@dataclass(frozen=True)
class Row:
    """One scan to import: whose, which visit, the wanted part of the split or "", and its files."""

    subject: str
    session: str
    split: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class LeftOut:
    """A scan that does not enter the database, and why; the detail, such as its path, is for the importer alone."""

    subject: str
    session: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Listing:
    """What a source holds."""

    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...] = ()


def table(path: Path, where: Mapping[str, str]) -> Listing:
    """Read a CSV or TSV table of scans.

    Parameters
    ----------
    path : Path
        With the columns ``subject``, ``image`` and ``label``, and optionally ``session`` and ``split``. Relative paths
        start at the table's own folder. An empty label means that the scan has none. Rows without any value are passed
        over.
    where : mapping
        Values that a row must have in certain columns; empty takes all rows.

    Returns
    -------
    Listing

    Raises
    ------
    ImportScanError
        If the table cannot be read, lacks a column or a cell, has a column twice or a cell too many, has no rows, or
        names a scan twice.
    """
    try:
        columns, *cells = _cells(path.read_text("utf-8-sig")) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImportScanError(
            "the table cannot be read; wanted a CSV or TSV file in UTF-8", f"{path}: {error}"
        ) from error
    missing = [name for name in (*_NEEDED, *where) if name not in columns]
    if missing:
        raise ImportScanError(f"the table has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}")
    if twice := [name for name, count in Counter(columns).items() if name and count > 1]:
        raise ImportScanError(f"the table has more than one column {', '.join(twice)}; rename or remove all but one")
    lines = [_named(columns, line) for line in cells]
    rows = [_row(line, path.parent) for line in lines if all(line[name] == value for name, value in where.items())]
    return Listing(_checked(rows, "the table has no rows to import"))


def freesurfer(folder: Path, *, image: str = "T1", label: str = "aparc+aseg") -> Listing:
    """List the subjects of a FreeSurfer `SUBJECTS_DIR`.

    Parameters
    ----------
    folder : Path
        The directory; each subject is a folder in it that has an `mri` folder.
    image : str
        ``T1``, ``norm``, ``orig`` or another volume of `mri`, without ``.mgz``.
    label : str
        ``aseg``, ``aparc+aseg`` or another volume of `mri`; empty for none.

    Returns
    -------
    Listing
        A folder named ``sub-X_REST`` is session ``REST`` (such as ``ses-Y``, or ``ses-Y_run-2``) of person ``sub-X``.
        Other folders that a longitudinal base names as its time points are sessions of one person, the base. Left out:
        template brains, subjects without the files or whose folders may not be read, and longitudinal runs and bases,
        because they are further versions of scans that are listed themselves.

    Raises
    ------
    ImportScanError
        If the folder is missing or holds no subject.
    """
    if not folders.is_folder(folder):
        raise ImportScanError("the SUBJECTS_DIR is missing; check its path", str(folder))
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    homes = folders.entries(folder)
    bases = _bases(homes)
    for home in homes:
        match = _BIDS_NAME.fullmatch(home.name)
        whose = (match[1], match[2] or "") if match else bases.get(home.name, (home.name, ""))
        subject, session = map(plain, whose)
        files = home / "mri" / f"{image}.mgz", home / "mri" / f"{label}.mgz" if label else None
        with _telling(left_out, subject, session):
            if not folders.is_folder(home / "mri"):
                continue
            if reason := _refused(home, files):
                left_out.append(LeftOut(subject, session, reason))
            else:
                rows.append(Row(subject, session, "", *files))
    return _listing(rows, left_out, "the SUBJECTS_DIR holds no subject that can be imported")


def bids(folder: Path, *, derivatives: str = "", desc: str = "", suffix: str = "T1w") -> Listing:
    """List the anatomical images of a BIDS dataset, and their label maps among its derivatives.

    Parameters
    ----------
    folder : Path
        The dataset, with its `dataset_description.json`.
    derivatives : str
        Name of the folder under `derivatives`; may be left empty where there is only one.
    desc : str
        The ``desc`` entity of the label maps, such as ``aseg``; empty for those without one.
    suffix : str
        Suffix of the images.

    Returns
    -------
    Listing
        Each image with the one ``dseg`` of the same subject and session, in the image's own space: with the entities of
        the image, but for those that a derivative adds, such as ``desc``. If the derivatives hold a ``desc-preproc``
        image, that is the one on the label's grid and is taken instead of the raw one. Left out: visits with no such
        pair, with more than one, or whose folders may not be read.

    Raises
    ------
    ImportScanError
        If this is not a BIDS dataset, or nothing in it can be imported.
    """
    _described(folder)
    home = _derivatives(folder, derivatives)
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    for visit in _visits(folder, left_out):
        subject, session = (*map(plain, visit), "")[:2]
        with _telling(left_out, subject, session):
            if not folders.is_folder(place := folder.joinpath(*visit, "anat")):
                continue
            found = _pair(place, home.joinpath(*visit, "anat"), desc, suffix)
            if isinstance(found, str):
                left_out.append(LeftOut(subject, session, found))
            else:
                rows.append(Row(subject, session, "", *found))
    return _listing(rows, left_out, "the BIDS dataset holds no scan that can be imported")


def _visits(folder: Path, left_out: list[LeftOut]) -> list[tuple[str, ...]]:
    """List people, then their sessions; somebody whose folder is closed is left out."""
    visits: list[tuple[str, ...]] = []
    for person in folders.entries(folder):
        if not person.name.startswith("sub-"):
            continue
        with _telling(left_out, plain(person.name), ""):
            sessions = [one.name for one in folders.entries(person) if one.name.startswith("ses-")]
            visits += [(person.name,), *((person.name, session) for session in sessions)]
    return sorted(visits, key=lambda visit: (len(visit), visit))


@contextmanager
def _telling(left_out: list[LeftOut], subject: str, session: str) -> Iterator[None]:
    """Leave out a scan on the way to which a folder is closed."""
    try:
        yield
    except ImportScanError as closed:
        left_out.append(LeftOut(subject, session, closed.public, closed.private))


def _listing(rows: Sequence[Row], left_out: Sequence[LeftOut], empty: str) -> Listing:
    """Return what a source holds; if that is nothing, say why of the first that was left out."""
    reason = f": {left_out[0].reason}" if left_out else ""
    return Listing(_checked(rows, empty + reason), tuple(left_out))


def _cells(text: str) -> list[list[str]]:
    """Return the rows of a table that hold anything, without the blanks around their cells."""
    first = text.lstrip().partition("\n")[0]
    # Strict: a quotation mark that is never closed would swallow the rows after it.
    reader = csv.reader(io.StringIO(text), delimiter="\t" if "\t" in first else ",", skipinitialspace=True, strict=True)
    rows = [[cell.strip() for cell in row] for row in reader]
    return [row for row in rows if any(row)]


def _named(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if any(cells[len(columns) :]):
        text = f"a row of the table has {len(cells)} cells for {len(columns)} columns; put what holds a comma in quotes"
        raise ImportScanError(text, str(cells))
    return dict(zip(columns, [*cells, *[""] * len(columns)], strict=False))


def _row(line: Mapping[str, str], folder: Path) -> Row:
    if not line["subject"] or not line["image"]:
        raise ImportScanError("a row of the table lacks its subject or image", str(dict(line)))
    if "\0" in line["image"] + line["label"]:
        raise ImportScanError(
            "a path in the table holds a character of value 0, which no file name can", str(dict(line))
        )
    label = folder / line["label"] if line["label"] else None
    return Row(line["subject"], line.get("session", ""), line.get("split", ""), folder / line["image"], label)


def _checked(rows: Sequence[Row], empty: str) -> tuple[Row, ...]:
    if not rows:
        raise ImportScanError(empty)
    twice = [scan for scan, count in Counter((row.subject, row.session) for row in rows).items() if count > 1]
    if twice:
        text = f"{len(twice)} scans are listed twice; give each scan of a subject its own session"
        raise ImportScanError(text, "; ".join(" ".join(scan).strip() for scan in twice[:8]))
    return tuple(rows)


def _bases(homes: Sequence[Path]) -> dict[str, tuple[str, str]]:
    """Return base and own name of each time point of a person who has several: FreeSurfer's longitudinal bases know."""
    points: dict[str, set[str]] = {}
    for home in homes:
        point, long, base = home.name.partition(".long.")
        if long:
            points.setdefault(base, set()).add(point)
        with suppress(OSError):  # one that is there and cannot be read is told when its base is left out
            points.setdefault(home.name, set()).update((home / "base-tps").read_text("utf-8", "replace").split())
    return {point: (base, point) for base, found in points.items() if len(found) > 1 for point in found}


def _refused(home: Path, files: Sequence[Path | None]) -> str:
    if home.name in _TEMPLATES or home.name.startswith("fsaverage"):
        return "a template brain that FreeSurfer ships, not a person"
    if (points := home / "base-tps").exists() and not os.access(points, os.R_OK):
        return "a longitudinal base whose base-tps may not be read: its time points are listed as different people"
    if ".long." in home.name or points.exists():
        return "a longitudinal run or base: a further version of scans that are listed themselves"
    missing = [path.name for path in files if path is not None and not folders.is_file(path)]
    return f"there is no mri/{missing[0]}" if missing else ""


def _described(folder: Path) -> None:
    try:
        record = parse_json((folder / "dataset_description.json").read_bytes())
        known = isinstance(record, dict) and "BIDSVersion" in record
    except (OSError, ValueError) as error:
        text = "this is not a BIDS dataset: it has no readable dataset_description.json"
        raise ImportScanError(text, f"{folder}: {error}") from error
    if not known:
        raise ImportScanError("this is not a BIDS dataset: its dataset_description.json names no BIDSVersion")


def _derivatives(folder: Path, name: str) -> Path:
    home = folder / "derivatives"
    found = [one.name for one in folders.entries(home) if folders.is_folder(one)]
    if name and name not in found:
        raise ImportScanError(f"the dataset has no derivatives {name!r}; it has {', '.join(found) or 'none'}")
    if not name and len(found) != 1:
        raise ImportScanError(f"name the derivatives that hold the labels; there are {', '.join(found) or 'none'}")
    return home / (name or found[0])


def _pair(raw: Path, derived: Path, desc: str, suffix: str) -> tuple[Path, Path] | str:
    """Return the image and label of a visit, or why there is no telling."""
    labels = [one for one in _listed(derived, "dseg") if one[1].get("desc", "") == desc and _own(one[1])]
    images = [one for one in _listed(raw, suffix) if _own(one[1])]
    better = [one for one in _listed(derived, suffix) if one[1].get("desc") == "preproc" and _own(one[1])]
    images = better or images
    if not images or not labels:
        return f"there is no {suffix} image" if not images else "there is no label map (dseg) in the image's own space"
    pairs = [(image, label) for image, of in images for label, to in labels if _origin(of) == _origin(to)]
    if len(pairs) == 1:
        return pairs[0]
    if len(images) == len(labels) == 1:
        return "image and label map (dseg) differ in an entity such as acq or run; list the right ones in a table"
    return f"{len(images)} images and {len(labels)} label maps to choose from; list the right ones in a table"


def _origin(entities: Mapping[str, str]) -> dict[str, str]:
    """Return the entities that say which image a file comes from."""
    return {name: value for name, value in entities.items() if name not in _DERIVED}


def _own(entities: Mapping[str, str]) -> bool:
    return entities.get("space", "T1w") in ("T1w", "orig")


def _listed(folder: Path, suffix: str) -> list[tuple[Path, dict[str, str]]]:
    """List a folder's NIfTI files with a suffix, each with its entities."""
    ends = tuple(f"_{suffix}{end}" for end in (".nii", ".nii.gz"))
    paths = [path for path in folders.entries(folder) if path.name.endswith(ends)]
    return [(path, dict(part.partition("-")[::2] for part in path.name.split("_")[:-1])) for path in paths]
