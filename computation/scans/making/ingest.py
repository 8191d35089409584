"""From listed image and label files to a scan database: new scans are made in parallel, known ones are taken over.

Each new scan becomes a small database of its own in a hidden folder beside the target, named by the checksums of its
files and by the recipe; when all are there, they are copied, block by block, into one. So an import that was killed
goes on where it stopped, memory is bounded by the scans in work, and equal input gives an equal file however many
processes made it. A scan that cannot be used is left out, listed with the reason, and noted in the database.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from computation.errors import ImportScanError
from computation.scans.making import images, labels, sources, spool
from computation.scans.making.conform import Target, grid_of_view
from computation.scans.making.options import Options
from computation.scans.making.plan import Task, plan, previous
from computation.scans.making.recipe import Recipe
from computation.scans.making.sources import LeftOut, Listing
from computation.scans.making.split import Fractions
from computation.scans.making.summary import ImportSummary, Taken
from computation.scans.store import provenance, writer
from computation.scans.store.exclusive import exclusive
from computation.scans.store.opening import SqliteStore
from computation.scans.store.records import Scan

__all__ = ["Progress", "import_scans", "import_table"]

#: Called after each scan with how many are done, how many there are, and the subject.
Progress = Callable[[int, int, str], None]


def import_table(
    table: Path,
    database: Path,
    *,
    spacing: float | Sequence[float] | None = 1.0,
    grid: int | Sequence[int] | Literal["view"] | None = "view",
    like: str = "ras",
    label_set: str = "gwm-white1-grey2",
    normalisation: str = "quantile",
    storage: str = images.STORAGES[0],
    fractions: Fractions = Fractions(),  # noqa: B008 - frozen
    seed: int = 0,
    where: Mapping[str, str] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    update: bool = False,
    jobs: int = 1,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Build a scan database from the files that a CSV or TSV table lists.

    Parameters
    ----------
    table, where
        See `sources.table`.
    database, dry_run, progress
        See `import_scans`.
    spacing : float or three floats or None
        Millimetres between voxels; None keeps each image's own.
    grid : int or three ints or "view" or None
        Voxels along each axis; "view" is as many as 256 mm take, None keeps each image's field of view.
    like : str
        One of `conform.LIKE`.
    label_set, normalisation, storage
        See `Recipe`.
    fractions, seed, strict, overwrite, update, jobs
        See `Options`.

    Returns
    -------
    ImportSummary

    Raises
    ------
    ImportScanError
        As `import_scans`, and if the table or an option is wrong.
    """
    sizes = _three(spacing, float)
    target = Target(sizes, grid_of_view(sizes) if grid == "view" else _three(grid, int), like)
    how = Recipe(target, label_set, normalisation, storage)
    options = Options(how, fractions, seed, strict, overwrite, update, jobs)
    _check_target(database, options)
    listing = sources.table(table, where or {})
    return import_scans(listing, database, options, dry_run=dry_run, progress=progress)


def import_scans(
    listing: Listing, database: Path, options: Options, *, dry_run: bool = False, progress: Progress | None = None
) -> ImportSummary:
    """Build or extend a scan database.

    Parameters
    ----------
    listing : Listing
        The scans; see `sources`.
    database : Path
        The file to write. It appears, or replaces the old one, only when all scans are in it.
    options : Options
        How.
    dry_run : bool
        Only compare checksums and split; read no image and write nothing.
    progress : callable, optional
        Called after each scan.

    Returns
    -------
    ImportSummary

    Raises
    ------
    ImportScanError
        If the target exists unasked or cannot be written, was made in another way, is being written by another import,
        if no scan at all can be used, or, with `strict`, if one cannot.
    """
    _check_target(database, options)
    with nullcontext() if dry_run else exclusive(database):
        # It may have come while another import held the lock.
        _check_target(database, options)
        return _import(listing, database, options, dry_run, progress)


def _import(
    listing: Listing, database: Path, options: Options, dry_run: bool, progress: Progress | None
) -> ImportSummary:
    chosen = labels.named(options.recipe.label_set)
    with previous(database, options, chosen) as old:
        tasks, refused, how = plan(listing, old, options)
        left_out = [*listing.left_out, *refused]
        if options.strict and left_out:
            raise ImportScanError(left_out[0].reason, _named(left_out[0]))
        if dry_run:
            return ImportSummary(tuple(_taken(task) for task in tasks), tuple(left_out))
        parts = database.with_name(f".{database.name}.parts")
        spool.folder(parts)
        with writer.create(database, provenance.header(chosen, options.recipe, how), parts) as out:
            taken, failed = _build(out, tasks, old, parts, options, progress)
            left_out += failed
            if not taken:
                first = left_out[0] if left_out else LeftOut("", "", "nothing is listed")
                raise ImportScanError(f"none of {len(left_out)} scans can be used: {first.reason}", _named(first))
            names = ("subject", "session", "reason")  # a database holds no path
            out.note("skipped", [{name: getattr(scan, name) for name in names} for scan in left_out])
    shutil.rmtree(parts, ignore_errors=True)
    return ImportSummary(tuple(taken), tuple(left_out))


def _check_target(database: Path, options: Options) -> None:
    if database.exists() and not (options.overwrite or options.update):
        text = "the database exists already; choose another name, or ask to replace or to update it"
        raise ImportScanError(text, str(database))


def _taken(task: Task, scan: Scan | None = None) -> Taken:
    row, split, state = task.row, task.split, task.state
    if scan is None:
        return Taken(row.subject, row.session, split, 0.0, state, task.warnings)
    return Taken(row.subject, row.session, split, scan.cut, state, (*scan.warnings, *task.warnings), scan.head)


def _build(
    out: writer.Writer,
    tasks: Sequence[Task],
    old: SqliteStore | None,
    parts: Path,
    options: Options,
    progress: Progress | None,
) -> tuple[list[Taken], list[LeftOut]]:
    """Make what is new, then write every scan in order."""
    wanted = {place: spool.part(parts, task, options.recipe) for place, task in enumerate(tasks) if task.old is None}
    done = len(tasks) - len(wanted)
    failures: dict[int, tuple[str, str]] = {}
    for place, failure in spool.made(tasks, wanted, options):
        done += 1
        if failure is not None:
            if options.strict:
                raise ImportScanError(*failure)
            failures[place] = failure
        if progress is not None:
            progress(done, len(tasks), tasks[place].row.subject)
    taken = []
    for place, task in enumerate(tasks):
        if place not in failures:
            taken.append(_copy(out, task, old, wanted.get(place)))
    return taken, [_left_out(tasks[place], *failures[place]) for place in sorted(failures)]


def _left_out(task: Task, reason: str, detail: str) -> LeftOut:
    return LeftOut(task.row.subject, task.row.session, reason, detail or str(task.row.image))


def _named(scan: LeftOut) -> str:
    return ": ".join(text for text in (f"{scan.subject} {scan.session}".strip(), scan.detail) if text)


def _copy(out: writer.Writer, task: Task, old: SqliteStore | None, part: Path | None) -> Taken:
    if old is not None and task.old is not None:
        out.copy(old, task.old, subject=task.row.subject, split=task.split)
        return _taken(task, task.old)
    with SqliteStore(part or Path(), 0) as store:
        (scan,) = store.scans()
        out.copy(store, scan, subject=task.row.subject, split=task.split)
        return _taken(task, scan)


def _three(value: Any, kind: Callable[[Any], Any]) -> Any:
    """Spread one side or spacing over three axes."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(sides) != 3:
        raise ImportScanError(f"wanted one or three numbers, found {len(sides)}")
    return tuple(kind(side) for side in sides)
