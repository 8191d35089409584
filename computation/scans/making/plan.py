"""Which scans an import has to make, which it can take over from the old database, and which part each is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from computation.errors import ImportScanError, MeshNetError, StoreError
from computation.scans.making import recipe, split
from computation.scans.making.labels import LabelSet
from computation.scans.making.options import Options
from computation.scans.making.sources import LeftOut, Listing, Row
from computation.scans.store import schema
from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import SqliteStore
from computation.scans.store.records import SPLITS, Scan, pack

__all__ = ["Task", "plan", "previous"]


@dataclass(frozen=True)
class Task:
    """A scan to be had.

    Attributes
    ----------
    row : Row
        Whose it is, and its files.
    split : str
        Its part of the split.
    source : mapping
        Its files' checksums.
    old : Scan or None
        The same scan in the old database, if it can be taken over.
    state : str
        As in `Taken`.
    warnings : tuple of str
        What is odd about it beside the others.
    """

    row: Row
    split: str
    source: Mapping[str, str]
    old: Scan | None
    state: str
    warnings: tuple[str, ...] = ()


@contextmanager
def previous(database: Path, options: Options, chosen: LabelSet) -> Iterator[SqliteStore | None]:
    """Open the database that is to be updated, and check that its scans were made in the same way.

    Parameters
    ----------
    database : Path
        Where it would be.
    options : Options
        How the import goes.
    chosen : LabelSet
        Its classes.

    Yields
    ------
    SqliteStore or None
        None where there is nothing to update.

    Raises
    ------
    ImportScanError
        If it cannot be read, is not one of ours, or was made in another way.
    """
    if not (options.update and database.exists()):
        yield None
        return
    try:
        connection = schema.connect(database)
        found = schema.version(connection)
        connection.close()
        old = SqliteStore(database, 0) if found is not None else None
    except StoreError as error:
        raise ImportScanError(f"the database cannot be updated: {error.public}", error.private) from error
    if old is None:
        raise ImportScanError("the database cannot be updated: it is not one of ours; choose another name")
    with old:
        known = old.meta.get("provenance", {}).get("parameters"), old.meta.get("label_names"), old.normalisation
        wanted = options.recipe.parameters(chosen), list(chosen.names), options.recipe.normalisation
        if found != schema.VERSION or pack(known) != pack(wanted):
            text = "the database was made with another grid, label set, normalisation, storage or schema"
            raise ImportScanError(f"{text}; give the same options, or ask to replace it", f"{known} / {wanted}")
        yield old


def plan(
    listing: Listing, old: SqliteStore | None, options: Options
) -> tuple[list[Task], list[LeftOut], Mapping[str, Any]]:
    """Decide for every scan, listed now or kept from before, where it comes from and which part it is in.

    Parameters
    ----------
    listing : Listing
        The scans that there are now.
    old : SqliteStore or None
        The database that is to be updated.
    options : Options
        How the import goes.

    Returns
    -------
    tasks : list of Task
        In the order in which they are written.
    refused : list of LeftOut
        Scans whose files cannot be read. One that the old database holds stays as it is there.
    how : mapping
        How people were divided into the parts of the split.

    Raises
    ------
    ImportScanError
        If the split that is asked for contradicts itself.
    """
    held = {} if old is None else {(scan.subject, scan.session): scan for scan in old.scans()}
    listed = {(row.subject, row.session) for row in listing.rows}
    parts, how = _split(listing.rows, {scan.subject: scan.split for scan in held.values()}, options)
    kept = [scan for scan in held.values() if (scan.subject, scan.session) not in listed]
    tasks = [Task(_no_row(scan), parts[scan.subject], _source(old, scan), scan, "unchanged") for scan in kept]
    refused = []
    for row in listing.rows:
        before = held.get((row.subject, row.session))
        try:
            source = recipe.checksums(row)
        except ImportScanError as error:
            if before is None:
                refused.append(LeftOut(row.subject, row.session, error.public, error.private))
                continue
            # A disk that is not mounted today must not take a scan, and with it a person's part of the split, away.
            text = f"{error.public}; the scan in the database stays"
            refused.append(LeftOut(row.subject, row.session, text, error.private))
            tasks.append(Task(row, parts[row.subject], _source(old, before), before, "unchanged"))
            continue
        same = old is not None and before is not None and _sound(old, before, source)
        state = "unchanged" if same else "new" if before is None else "changed"
        tasks.append(Task(row, parts[row.subject], source, before if same else None, state))
    return _warned(tasks), refused, how


def _no_row(scan: Scan) -> Row:
    return Row(scan.subject, scan.session, scan.split, Path(), None)


def _source(old: SqliteStore | None, scan: Scan) -> Mapping[str, str]:
    try:
        return {} if old is None else old.source(scan)
    except MeshNetError:
        # Copying it will say so.
        return {}


def _warned(tasks: Sequence[Task]) -> list[Task]:
    """Say which images are there as those of several people: their parts of the split may share a scan untold."""
    whose: dict[str, dict[str, str]] = {}
    for task in tasks:
        if checksum := task.source.get("image"):
            whose.setdefault(str(checksum), {})[task.row.subject] = task.split
    found = []
    for task in tasks:
        people = whose.get(str(task.source.get("image")), {})
        found.append(replace(task, warnings=(_shared(people),)) if len(people) > 1 else task)
    return found


def _shared(people: Mapping[str, str]) -> str:
    places = " and ".join(part for part in SPLITS if part in people.values())
    return f"the same image file is there for {len(people)} people, in {places}; keep only the right one"


def _sound(old: SqliteStore, scan: Scan, source: Mapping[str, str]) -> bool:
    """Tell whether a scan was made from these files, and is undamaged."""
    try:
        if old.source(scan) != source:
            return False
        old.verify(scan)
    except ScanFault:
        return False
    return True


def _split(rows: Sequence[Row], kept: Mapping[str, str], options: Options) -> tuple[Mapping[str, str], dict[str, Any]]:
    if any(row.split for row in rows):
        stated = [*kept.items(), *((row.subject, row.split) for row in rows)]
        return split.given(stated), {"by": "table"}
    how = {"by": "subject", "fractions": list(astuple(options.fractions)), "seed": options.seed}
    return split.assign((row.subject for row in rows), options.fractions, options.seed, kept), how
