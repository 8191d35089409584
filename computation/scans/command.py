"""The `import` and `inspect` subcommands: the only place in this room that prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from computation.scans import labels, normalise
from computation.scans.faults import ScanFault
from computation.scans.ingest import ImportSummary, import_table
from computation.scans.records import SPLITS, Scan
from computation.scans.split import Fractions
from computation.scans.store import SqliteStore, Store, open_store

__all__ = ["add_arguments", "run", "run_import", "run_inspect"]


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands; each sets `run` to its function.

    Parameters
    ----------
    commands : argparse subparsers action
        What `parser.add_subparsers` returned.
    """
    _add_import(commands.add_parser("import", help="build a scan database from NIfTI or .mgz files"))
    _add_inspect(commands.add_parser("inspect", help="show and verify what a scan database holds"))


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
    """Carry out `import`; see `ingest.import_table`."""
    console = Console()
    columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        summary = import_table(
            arguments.table,
            arguments.db,
            spacing=None if arguments.spacing == [0] else _one_or_three(arguments.spacing),
            grid=None if arguments.grid == [0] else _one_or_three(arguments.grid),
            label_set=arguments.labels,
            normalisation=arguments.normalise,
            fractions=Fractions(*arguments.split),
            seed=arguments.seed,
            where=dict(arguments.where),
            strict=arguments.strict,
            overwrite=arguments.overwrite,
            progress=lambda done, total, subject: bar.update(task, completed=done, total=total, description=subject),
        )
    _show_import(console, summary)
    return 0


def run_inspect(arguments: argparse.Namespace) -> int:
    """Carry out `inspect`: list the scans and, unless told otherwise, read and check every voxel."""
    console = Console()
    with open_store(arguments.db, table=arguments.table) as store:
        _show_facts(console, store)
        faults = None if arguments.quick else _verify(console, store)
        _show_scans(console, store.scans(), faults)
    for key, fault in (faults or {}).items():
        console.print(f"[red]scan {key}: {escape(str(fault))}")
    return 1 if faults else 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, help="CSV or TSV: subject, image, label, and optionally session, split")
    parser.add_argument("--db", type=Path, required=True, help="the database to write")
    parser.add_argument("--spacing", type=float, nargs="+", default=[1.0], metavar="MM", help="one or three; 0 keeps")
    parser.add_argument("--grid", type=int, nargs="+", default=[256], metavar="N", help="one or three; 0 keeps")
    known = ", ".join(labels.names())
    parser.add_argument(
        "--labels", default="gwm-white1-grey2", metavar="SET[:SOURCE]", help=f"{known}, or a .json file"
    )
    parser.add_argument("--normalise", default="quantile", choices=normalise.SCHEMES)
    parser.add_argument("--split", type=float, nargs=3, default=[0.7, 0.2, 0.1], metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--seed", type=int, default=0, help="of the split; it is drawn over people, not scans")
    parser.add_argument("--where", type=_condition, action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--strict", action="store_true", help="stop at the first scan that cannot be used")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing database")
    parser.set_defaults(run=run_import)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("db", type=Path, help="a scan database, ours or one with the peer's table")
    parser.add_argument("--table", default=None, help="which table of a peer's database")
    parser.add_argument("--quick", action="store_true", help="do not read and check the voxels")
    parser.set_defaults(run=run_inspect)


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column:
        raise argparse.ArgumentTypeError(f"wanted COLUMN=VALUE, found {text!r}")
    return column, value


def _one_or_three(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _show_import(console: Console, summary: ImportSummary) -> None:
    parts = ", ".join(f"{count} {part}" for part, count in summary.counts.items())
    console.print(f"[green]{len(summary.taken)} scans taken[/]: {parts}")
    for scan in summary.taken:
        if scan.cut > 0:
            name = escape(f"{scan.subject} {scan.session}".strip())
            console.print(f"[yellow]{name}: {scan.cut:.2%} of the head lies outside the grid; choose a larger one")
    for row in summary.left_out:
        console.print(f"[red]{escape(f'{row.subject} {row.session}'.strip())}: left out: {escape(row.reason)}")


def _show_facts(console: Console, store: Store) -> None:
    console.print(f"format: {store.format}; normalisation: {store.normalisation}")
    console.print("classes: " + ", ".join(f"{index} {name}" for index, name in enumerate(store.label_names)))
    counts = ", ".join(f"{len(store.scans(part))} {part}" for part in SPLITS)
    console.print(f"scans: {counts}")


def _show_scans(console: Console, scans: Sequence[Scan], faults: dict[int, ScanFault] | None) -> None:
    table = Table("scan", "subject", "session", "split", "voxels", "mm", "type", "label", "low", "high", "state")
    for scan in scans:
        shape, spacing = " x ".join(map(str, scan.shape)), " x ".join(f"{size:g}" for size in scan.spacing)
        names = (str(scan.key), escape(scan.subject), escape(scan.session), scan.split)
        numbers = (shape, spacing, scan.dtype, "yes" if scan.labelled else "no", f"{scan.low:.4g}", f"{scan.high:.4g}")
        table.add_row(*names, *numbers, _state(scan, faults))
    console.print(table)


def _state(scan: Scan, faults: dict[int, ScanFault] | None) -> str:
    if faults is None:
        return "not checked"
    return f"[red]{faults[scan.key].fault.value}" if scan.key in faults else "[green]ok"


def _verify(console: Console, store: Store) -> dict[int, ScanFault]:
    faults: dict[int, ScanFault] = {}
    if not isinstance(store, SqliteStore):
        # Opening a peer's table has already read every voxel of it.
        return faults
    with console.status("checking every block"):
        for scan in store.scans():
            try:
                store.verify(scan)
            except ScanFault as fault:
                faults[scan.key] = fault
    return faults
