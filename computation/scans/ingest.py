"""From listed image and label files to a scan database: new scans are made in parallel, known ones are taken over.

Each new scan becomes a small database of its own in a hidden folder beside the target, named by the checksums of its
files and by the recipe; when all are there, they are copied, block by block, into one. So an import that was killed
goes on where it stopped, memory is bounded by the scans in work, and equal input gives an equal file however many
processes made it. A scan that cannot be used is left out, listed with the reason, and noted in the database.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import platform
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from computation import __version__
from computation.errors import ImportScanError, StoreError
from computation.scans import images, labels, recipe, schema, sources, split, writer
from computation.scans.conform import Target
from computation.scans.faults import ScanFault
from computation.scans.labels import LabelSet
from computation.scans.recipe import Recipe
from computation.scans.records import SPLITS, Scan, pack
from computation.scans.sources import LeftOut, Listing, Row
from computation.scans.split import Fractions
from computation.scans.store import SqliteStore

__all__ = [
    "ImportSummary",
    "LeftOut",
    "Options",
    "Progress",
    "Row",
    "Taken",
    "import_scans",
    "import_table",
    "versions",
]

#: Called after each scan with how many are done, how many there are, and the subject.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Taken:
    """A scan that entered the database, or would.

    Attributes
    ----------
    subject, session, split : str
        Whose, which visit, and which part of the split.
    cut : float
        Share of its labelled voxels that lies outside the grid; anything above 0 deserves a look.
    state : str
        ``new``, ``changed`` (its files are not those of the old database) or ``unchanged`` (taken over).
    warnings : tuple of str
        What is odd about it.
    """

    subject: str
    session: str
    split: str
    cut: float = 0.0
    state: str = "new"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportSummary:
    """What an import did with every scan that it was given."""

    taken: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Scans taken in each part of the split."""
        found = Counter(scan.split for scan in self.taken)
        return {part: found[part] for part in SPLITS}


@dataclass(frozen=True)
class Options:
    """How an import goes about it.

    Attributes
    ----------
    recipe : Recipe
        What is done to each scan.
    fractions : Fractions
        Sizes of train, valid and test where no split is given.
    seed : int
        Of the split.
    strict : bool
        Refuse the whole import at the first scan that cannot be used.
    overwrite : bool
        Replace an existing database by a new one.
    update : bool
        Add to an existing database: scans whose files are unchanged are taken over, people keep their part of the
        split, and scans that are no longer listed stay.
    jobs : int
        How many scans are made at once, each in a process of its own.
    """

    recipe: Recipe = field(default_factory=Recipe)
    fractions: Fractions = field(default_factory=Fractions)
    seed: int = 0
    strict: bool = False
    overwrite: bool = False
    update: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ImportScanError(f"{self.jobs} jobs can import nothing; wanted at least 1")


@dataclass(frozen=True)
class _Task:
    """A scan to be had: its row, part of the split and checksums, and the key of the same scan in the old database."""

    row: Row
    split: str
    source: Mapping[str, str]
    old: int | None
    state: str


def import_table(
    table: Path,
    database: Path,
    *,
    spacing: float | Sequence[float] | None = 1.0,
    grid: int | Sequence[int] | None = 256,
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
    grid : int or three ints or None
        Voxels along each axis; None keeps each image's field of view.
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
    target = Target(_three(spacing, float), _three(grid, int), like)
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
        If the target exists unasked or cannot be written, was made in another way, if no scan at all can be used, or,
        with `strict`, if one cannot.
    """
    _check_target(database, options)
    chosen = labels.named(options.recipe.label_set)
    with _previous(database, options, chosen) as old:
        tasks, refused, how = _plan(listing, old, options)
        left_out = [*listing.left_out, *refused]
        if options.strict and left_out:
            raise ImportScanError(left_out[0].reason, left_out[0].subject)
        if dry_run:
            return ImportSummary(tuple(_taken(task) for task in tasks), tuple(left_out))
        spool = database.with_name(f".{database.name}.parts")
        with writer.create(database, _header(chosen, options.recipe, how)) as out:
            taken, failed = _build(out, tasks, old, spool, options, progress)
            left_out += failed
            if not taken:
                first = left_out[0] if left_out else LeftOut("", "", "nothing is listed")
                raise ImportScanError(f"none of {len(left_out)} scans can be used: {first.reason}", first.subject)
            out.note("skipped", [asdict(scan) for scan in left_out])
    shutil.rmtree(spool, ignore_errors=True)
    return ImportSummary(tuple(taken), tuple(left_out))


def versions() -> dict[str, str]:
    """Return the versions of everything that had a hand in an import."""
    packages = {name: version(name) for name in ("nibabel", "numpy", "scipy", "zstandard")}
    own = {"coinstac-meshnet": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {**own, **packages}


def _check_target(database: Path, options: Options) -> None:
    if database.exists() and not (options.overwrite or options.update):
        text = "the database exists already; choose another name, or ask to replace or to update it"
        raise ImportScanError(text, str(database))


def _header(chosen: LabelSet, how: Recipe, division: Mapping[str, Any]) -> writer.Header:
    return writer.Header(
        label_set=chosen.name,
        label_names=chosen.names,
        label_colours=chosen.colours,
        normalisation=how.normalisation,
        split=division,
        provenance={"versions": versions(), "parameters": how.parameters(chosen)},
    )


@contextmanager
def _previous(database: Path, options: Options, chosen: LabelSet) -> Iterator[SqliteStore | None]:
    """Open the database that is to be updated, and check that its scans were made in the same way."""
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


def _plan(
    listing: Listing, old: SqliteStore | None, options: Options
) -> tuple[list[_Task], list[LeftOut], Mapping[str, Any]]:
    """Decide for every scan, listed now or kept from before, where it comes from and which part it is in."""
    held = {} if old is None else {(scan.subject, scan.session): scan for scan in old.scans()}
    listed = {(row.subject, row.session) for row in listing.rows}
    parts, how = _split(listing.rows, {scan.subject: scan.split for scan in held.values()}, options)
    kept = [scan for scan in held.values() if (scan.subject, scan.session) not in listed]
    tasks = [_Task(_no_row(scan), parts[scan.subject], {}, scan.key, "unchanged") for scan in kept]
    refused = []
    for row in listing.rows:
        before = held.get((row.subject, row.session))
        try:
            source = recipe.checksums(row)
        except ImportScanError as error:
            refused.append(LeftOut(row.subject, row.session, error.public))
            continue
        same = old is not None and before is not None and _sound(old, before, source)
        state = "unchanged" if same else "new" if before is None else "changed"
        tasks.append(_Task(row, parts[row.subject], source, before.key if same and before else None, state))
    return tasks, refused, how


def _no_row(scan: Scan) -> Row:
    return Row(scan.subject, scan.session, scan.split, Path(), None)


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


def _taken(task: _Task, scan: Scan | None = None) -> Taken:
    cut, warnings = (0.0, ()) if scan is None else (scan.cut, scan.warnings)
    return Taken(task.row.subject, task.row.session, task.split, cut, task.state, warnings)


def _build(
    out: writer.Writer,
    tasks: Sequence[_Task],
    old: SqliteStore | None,
    spool: Path,
    options: Options,
    progress: Progress | None,
) -> tuple[list[Taken], list[LeftOut]]:
    """Make what is new, then write every scan in order."""
    wanted = {place: _part(spool, task, options.recipe) for place, task in enumerate(tasks) if task.old is None}
    done = len(tasks) - len(wanted)
    failures: dict[int, str] = {}
    for place, failure in _made(tasks, wanted, options):
        done += 1
        if failure is not None:
            if options.strict:
                raise ImportScanError(*failure)
            failures[place] = failure[0]
        if progress is not None:
            progress(done, len(tasks), tasks[place].row.subject)
    taken = []
    for place, task in enumerate(tasks):
        if place not in failures:
            taken.append(_copy(out, task, old if task.old is not None else None, wanted.get(place)))
    left_out = [
        LeftOut(tasks[place].row.subject, tasks[place].row.session, failures[place]) for place in sorted(failures)
    ]
    return taken, left_out


def _copy(out: writer.Writer, task: _Task, old: SqliteStore | None, part: Path | None) -> Taken:
    if old is not None:
        scan = next(scan for scan in old.scans() if scan.key == task.old)
        out.copy(old, scan, subject=task.row.subject, split=task.split)
        return _taken(task, scan)
    with SqliteStore(part or Path(), 0) as store:
        (scan,) = store.scans()
        out.copy(store, scan, subject=task.row.subject, split=task.split)
        return _taken(task, scan)


def _part(spool: Path, task: _Task, how: Recipe) -> Path:
    """Return where a scan is put until all are there: a name that says what went into it."""
    chosen = labels.named(how.label_set)
    facts = [task.row.subject, task.row.session, dict(task.source), how.parameters(chosen), how.normalisation]
    everything = pack([*facts, list(chosen.names), schema.VERSION, versions()])
    return spool / f"{hashlib.sha256(everything.encode()).hexdigest()}.db"


def _made(
    tasks: Sequence[_Task], wanted: Mapping[int, Path], options: Options
) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Make the wanted scans; yield each place when its scan is there, with the two halves of the error if it is not."""
    todo = {place: path for place, path in wanted.items() if not path.exists()}
    yield from ((place, None) for place in wanted if place not in todo)
    for path in todo.values():
        _folder(path.parent)
    if options.jobs == 1 or len(todo) < 2:
        for place, path in todo.items():
            yield place, _work(tasks[place], path, options.recipe)
        return
    yield from _in_parallel(tasks, todo, options)


def _in_parallel(
    tasks: Sequence[_Task], todo: Mapping[int, Path], options: Options
) -> Iterator[tuple[int, tuple[str, str] | None]]:
    # A fresh interpreter a process: nothing of this one, such as torch and its threads, is copied into it.
    context = multiprocessing.get_context("spawn")
    waiting = iter(todo.items())
    running: dict[Future[tuple[str, str] | None], int] = {}
    with ProcessPoolExecutor(min(options.jobs, len(todo)), mp_context=context) as pool:
        try:
            while True:
                for place, path in waiting:
                    running[pool.submit(_work, tasks[place], path, options.recipe)] = place
                    if len(running) >= options.jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            text = "a process that made scans died, most likely for want of memory; import with fewer jobs"
            raise ImportScanError(text, str(error)) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _work(task: _Task, path: Path, how: Recipe) -> tuple[str, str] | None:
    """Make one scan; return nothing, or the public and private halves of what is wrong with it."""
    try:
        entry = recipe.make(task.row, "train", how, task.source)
        with writer.create(path, _header(labels.named(how.label_set), how, {})) as out:
            out.add(entry)
    except ImportScanError as error:
        return error.public, error.private
    except MemoryError as error:
        return "the scan needs more memory than there is; import with fewer jobs", str(error)
    return None


def _folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        text = "the scan database cannot be written; check that its folder exists, is writable and has space"
        raise ImportScanError(text, f"{path}: {error}") from error


def _three(value: Any, kind: Callable[[Any], Any]) -> Any:
    """Spread one side or spacing over three axes."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    if len(sides) != 3:
        raise ImportScanError(f"wanted one or three numbers, found {len(sides)}")
    return tuple(kind(side) for side in sides)
