"""`coinstac-meshnet demo`: two sites made from a brain template train one MeshNet; nothing to download or prepare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from computation import terminal
from computation.coinstac.compspec import inputspec
from computation.errors import SimulatorError, unwritable
from simulator import command

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Register `demo` among the sub-commands of an argument parser."""
    text = "build two demo sites from the MNI152 template and train one model between them"
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--output", type=Path, default=Path("run"), help="folder for everything the run writes")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from sqlite_fixtures.build import build

    console = terminal.console()
    sites = options.output / "sites"
    text = "building the two demo sites from the MNI152 template"
    if not console.is_terminal:
        console.print(text)
    try:
        with console.status(text, spinner="dots" if console.encoding.startswith("utf") else "line"):
            build(sites)
    except OSError as error:
        raise SimulatorError(unwritable("output"), str(error)) from error
    console.print("The demo's scans are made from a template; they are not people.")
    command.simulate(inputspec(), inputs=sites, output=options.output, console=console)
