"""`coinstac-meshnet ...`: everything a person does from a terminal, one sub-command each."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # as in entry.py: nothing is imported from the working directory or from this file's folder
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [os.path.realpath(f"{__file__}/../..")]

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation import __version__
from computation.errors import MeshNetError
from computation.terminal import complain, console

if TYPE_CHECKING:
    from computation.settings import Option

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line without the program's name; the process's own by default.

    Returns
    -------
    int
        Exit status: 0, 2 for what the user can mend, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except MeshNetError as error:
        complain(f"coinstac-meshnet: {error}")
        return 2
    except KeyboardInterrupt:
        complain("coinstac-meshnet: stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coinstac-meshnet", description="Federated training of MeshNet on COINSTAC.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    from computation.commands import command as models
    from computation.scans import command as scans
    from peers import command as peers
    from peers.mesh import command as mesh
    from peers.swarm import command as swarm
    from service import command as service
    from simulator import command as simulator
    from simulator import demo

    scans.add_arguments(commands)
    models.add_commands(commands)
    simulator.add_commands(commands)
    demo.add_commands(commands)
    peers.add_commands(commands)
    mesh.add_commands(commands)
    swarm.add_commands(commands)
    service.add_commands(commands)
    settings = commands.add_parser("settings", help="list every setting with its default, range and meaning")
    settings.set_defaults(run=_settings)
    specs = commands.add_parser("specs", help="write compspec.json and inputspec.json from the settings")
    specs.add_argument("folder", type=Path, nargs="?", default=Path())
    specs.set_defaults(run=_specs)
    return parser


def _settings(_: argparse.Namespace) -> None:
    from rich.markup import escape
    from rich.table import Table

    from computation.settings import Member, Settings, options

    for title, record in (("Owner: one value for all sites", Settings), ("Member: each site's own", Member)):
        table = Table("setting", "default", "allowed", "meaning", title=title)
        for name, (default, option) in options(record).items():
            table.add_row(name, *map(escape, (_typed(default), _allowed(option), option.help)))
        console().print(table)


def _typed(value: Any) -> str:
    """Return a setting's value as `train --setting NAME=VALUE` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _allowed(option: Option) -> str:
    if option.values:
        return ", ".join(option.values)
    if option.low is None or option.high is None:
        return option.kind
    try:
        option.check(option.low)
    except ValueError:
        return f"above {_plain(option.low)}, to {_plain(option.high)}"
    return f"{_plain(option.low)} to {_plain(option.high)}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:g}"


def _specs(options: argparse.Namespace) -> None:
    from computation.coinstac.compspec import compspec, inputspec
    from computation.commands.outputs import write_json

    for name, value in (("compspec.json", compspec()), ("inputspec.json", inputspec())):
        write_json(options.folder / name, value)


if __name__ == "__main__":
    sys.exit(main())
