"""The `import`, `inspect` and `migrate` subcommands: the only place in this room that prints."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from computation import terminal
from computation.errors import ImportScanError
from computation.scans import figure
from computation.scans.making import images, labels, sources
from computation.scans.making.conform import LIKE, Target, grid_of_view
from computation.scans.making.ingest import import_scans
from computation.scans.making.options import Options
from computation.scans.making.recipe import Recipe
from computation.scans.making.split import Fractions
from computation.scans.making.summary import ImportSummary
from computation.scans.store import checking, normalise
from computation.scans.store.faults import ScanFault
from computation.scans.store.migrate import from_peer, migrate
from computation.scans.store.opening import Store, open_store
from computation.scans.store.records import SPLITS, Scan
from computation.terminal import shown

__all__ = ["add_arguments", "listing_of", "options_of", "run", "run_import", "run_inspect", "run_migrate"]

#: How many scans a figure shows unless they are named.
_SHOWN = 6


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommands; each sets `run` to its function.

    Parameters
    ----------
    commands : argparse subparsers action
        What `parser.add_subparsers` returned.
    """
    _add_import(commands.add_parser("import", help="build a scan database from MRI files"))
    _add_inspect(commands.add_parser("inspect", help="show and verify what a scan database holds"))
    _add_migrate(commands.add_parser("migrate", help="bring a scan database of an older schema version forward"))


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen subcommand.

    Returns
    -------
    int
        Exit status: 0, or 1 if `inspect` found damage.

    Raises
    ------
    MeshNetError
        If the command cannot be carried out.
    """
    return int(arguments.run(arguments))


def run_import(arguments: argparse.Namespace) -> int:
    """Carry out `import`; see `ingest.import_scans` and `migrate.from_peer`."""
    console = terminal.console()
    _check_fitting(arguments)
    if arguments.from_peer is not None:
        with _progress(console) as progress:
            count = from_peer(
                arguments.from_peer,
                arguments.db,
                table=arguments.peer_table,
                label_set=arguments.labels,
                storage=arguments.storage,
                overwrite=arguments.overwrite,
                progress=progress,
            )
        console.print(f"[green]{count} scans taken[/] from the peer's table; orientation and voxel size are unknown")
        return 0
    listing, options = listing_of(arguments), options_of(arguments)
    with _progress(console) as progress:
        summary = import_scans(listing, arguments.db, options, dry_run=arguments.dry_run, progress=progress)
    _show_import(console, summary, arguments.dry_run)
    return 0


def run_inspect(arguments: argparse.Namespace) -> int:
    """Carry out `inspect`: list the scans and, unless told otherwise, read and check every voxel."""
    console = terminal.console()
    with open_store(arguments.db, table=arguments.table) as store:
        _show_facts(console, store)
        faults = None if arguments.quick else _verify(console, store)
        _show_scans(console, store.scans(), faults)
        if arguments.figure is not None:
            wanted = [scan for scan in store.scans() if not arguments.scan or scan.key in arguments.scan]
            figure.mosaic(store, wanted if arguments.scan else wanted[:_SHOWN], arguments.figure)
            console.print(f"figure: {shown(arguments.figure)}")
    for key, fault in (faults or {}).items():
        console.print(f"[red]scan {key}: {shown(fault)}")
    return 1 if faults else 0


def run_migrate(arguments: argparse.Namespace) -> int:
    """Carry out `migrate`: rewrite a database in place, or into another file."""
    console = terminal.console()
    target = arguments.to or arguments.db
    with _progress(console) as progress:
        overwrite = arguments.overwrite or arguments.to is None
        count = migrate(arguments.db, target, overwrite=overwrite, progress=progress)
    console.print(f"[green]{count} scans written[/]")
    return 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    _add_sources(parser)
    parser.add_argument("--db", type=Path, required=True, help="the database to write")
    parser.add_argument("--like", default=LIKE[0], choices=LIKE, help="whose way of conforming; see docs/scans.md")
    parser.add_argument(
        "--spacing", type=float, nargs="+", default=[1.0], metavar="MM", help="one or three, 1 unless given; 0 keeps"
    )
    parser.add_argument(
        "--grid", type=int, nargs="+", metavar="N", help="one or three; as many as 256 mm take unless given; 0 keeps"
    )
    known = ", ".join(labels.names())
    parser.add_argument(
        "--labels", default="gwm-white1-grey2", metavar="SET[:SOURCE]", help=f"{known}, identity-N or a .json file"
    )
    parser.add_argument("--normalise", default="quantile", choices=normalise.SCHEMES)
    parser.add_argument("--storage", default=images.STORAGES[0], choices=images.STORAGES, help="precision of the image")
    parser.add_argument("--split", type=float, nargs=3, default=[0.7, 0.2, 0.1], metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--seed", type=int, default=0, help="of the split; it is drawn over people, not scans")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="scans made at once")
    parser.add_argument("--strict", action="store_true", help="stop at the first scan that cannot be used")
    parser.add_argument("--update", action="store_true", help="add to an existing database what is new or changed")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing database")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    parser.set_defaults(run=run_import)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    text = "CSV or TSV: subject, image, label, and optionally session, split"
    group.add_argument("table", type=Path, nargs="?", help=text)
    group.add_argument("--freesurfer", type=Path, metavar="SUBJECTS_DIR", help="take FreeSurfer's subjects")
    group.add_argument("--bids", type=Path, metavar="DATASET", help="take a BIDS dataset with derivatives")
    group.add_argument("--from-peer", type=Path, metavar="DB", help="take the prototype's table of whole cubes")
    parser.add_argument("--where", type=_condition, action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--volume", default="T1", help="FreeSurfer: T1, norm or orig")
    parser.add_argument(
        "--segmentation", default="aparc+aseg", help="FreeSurfer: aseg, aparc+aseg, ...; empty for none"
    )
    parser.add_argument("--derivatives", default="", help="BIDS: the folder that holds the labels")
    parser.add_argument("--desc", default="", help="BIDS: the desc entity of the label maps")
    parser.add_argument("--peer-table", default=None, help="which table of the prototype's database")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("db", type=Path, help="a scan database, ours or the prototype's")
    parser.add_argument("--table", default=None, help="which table of the prototype's database")
    parser.add_argument("--quick", action="store_true", help="do not read and check the voxels")
    parser.add_argument("--figure", type=Path, default=None, metavar="PNG", help="draw scans with their label outlines")
    parser.add_argument("--scan", type=int, nargs="+", default=[], help="which scans to draw; the first few otherwise")
    parser.set_defaults(run=run_inspect)


def _add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("db", type=Path, help="one of our databases, of any version that can be read")
    parser.add_argument("--to", type=Path, default=None, help="the new file; the old one is replaced otherwise")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing new file")
    parser.set_defaults(run=run_migrate)


def _check_fitting(arguments: argparse.Namespace) -> None:
    """Refuse what would silently do nothing: a filter on rows where there is no table, a dry run that would write."""
    if arguments.where and arguments.table is None:
        raise ImportScanError("--where chooses rows of a table; there is none here")
    if arguments.from_peer is not None and (arguments.dry_run or arguments.update):
        raise ImportScanError(
            "--from-peer takes the whole table at once; neither --dry-run nor --update can be had with it"
        )


def listing_of(arguments: argparse.Namespace) -> sources.Listing:
    """Return the scans that an `import` names; raises `ImportScanError` if there are none."""
    if arguments.freesurfer is not None:
        return sources.freesurfer(arguments.freesurfer, image=arguments.volume, label=arguments.segmentation)
    if arguments.bids is not None:
        return sources.bids(arguments.bids, derivatives=arguments.derivatives, desc=arguments.desc)
    return sources.table(arguments.table, dict(arguments.where))


def options_of(arguments: argparse.Namespace) -> Options:
    """Return the way in which an `import` goes; raises `ImportScanError` if there is no such way."""
    spacing = _three(arguments.spacing)
    grid = grid_of_view(spacing) if arguments.grid is None else _three(arguments.grid)
    target = Target(spacing, grid, arguments.like)
    return Options(
        recipe=Recipe(target, arguments.labels, arguments.normalise, arguments.storage),
        fractions=Fractions(*arguments.split),
        seed=arguments.seed,
        strict=arguments.strict,
        overwrite=arguments.overwrite,
        update=arguments.update,
        jobs=arguments.jobs,
    )


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, subject: bar.update(task, completed=done, total=total, description=shown(subject))


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise argparse.ArgumentTypeError(f"wanted COLUMN=VALUE, found {text!r}")
    return column, value


def _three(values: Sequence[Any]) -> Any:
    """Spread one number over three axes; a single 0 means that nothing is wanted."""
    if len(values) not in (1, 3):
        raise ImportScanError(f"wanted one or three numbers, found {len(values)}")
    return None if list(values) == [0] else tuple(values) * (3 // len(values))


def _show_import(console: Console, summary: ImportSummary, dry: bool) -> None:
    parts = ", ".join(f"{count} {part}" for part, count in summary.counts.items())
    states = {name: sum(scan.state == name for scan in summary.taken) for name in ("new", "changed", "unchanged")}
    done = "would be taken" if dry else "taken"
    told = ", ".join(f"{count} {name}" for name, count in states.items() if count)
    console.print(f"[green]{len(summary.taken)} scans {done}[/]: {parts} ({told})")
    for scan in summary.taken:
        name = shown(f"{scan.subject} {scan.session}".strip())
        if dry:
            console.print(f"{name}: {scan.state}, {scan.split}")
        for text in scan.warnings:
            console.print(f"[yellow]{name}: {shown(text)}")
    if summary.mixed:
        console.print(f"[yellow]{summary.mixed}")
    for row in summary.left_out:
        console.print(f"[red]{shown(f'{row.subject} {row.session}'.strip())}: left out: {shown(row.reason)}")
        if row.detail:
            console.print(f"    {shown(row.detail)}")


def _show_facts(console: Console, store: Store) -> None:
    console.print(f"format: {store.format}; normalisation: {store.normalisation}")
    console.print("classes: " + ", ".join(f"{index} {shown(name)}" for index, name in enumerate(store.label_names)))
    counts = ", ".join(f"{len(store.scans(part))} {part}" for part in SPLITS)
    heads = Counter(scan.head for scan in store.scans())
    console.print(f"scans: {counts}; heads: " + ", ".join(f"{heads[kind]} {kind}" for kind in sorted(heads)))


def _show_scans(console: Console, scans: Sequence[Scan], faults: dict[int, ScanFault] | None) -> None:
    table = Table("scan", "subject", "session", "split", "voxels", "mm", "type", "label", "low", "high", "state")
    for scan in scans:
        shape, spacing = " x ".join(map(str, scan.shape)), " x ".join(f"{size:g}" for size in scan.spacing)
        names = (str(scan.key), shown(scan.subject), shown(scan.session), scan.split)
        numbers = (shape, spacing, scan.dtype, "yes" if scan.labelled else "no", f"{scan.low:.4g}", f"{scan.high:.4g}")
        table.add_row(*names, *numbers, _state(scan, faults))
    console.print(table)


def _state(scan: Scan, faults: dict[int, ScanFault] | None) -> str:
    if faults is None:
        return "not checked"
    return f"[red]{faults[scan.key].fault.value}" if scan.key in faults else "[green]ok"


def _verify(console: Console, store: Store) -> dict[int, ScanFault]:
    with console.status("checking every block"):
        return checking.faults(store)
