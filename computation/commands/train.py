"""`coinstac-meshnet train`: one site on its own, over the same protocol and code as a consortium."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from computation import terminal
from computation.checks import is_encodable, parse_json
from computation.errors import SettingsError, SimulatorError, StoreError, unwritable
from computation.scans.store.opening import open_store
from computation.settings import Settings, parse
from computation.terminal import shown
from simulator.changes import Changes, asked
from simulator.command import simulate
from simulator.layout import RUN, Layout
from simulator.result import Result

__all__ = ["inputs_of", "run", "train"]

_SITE = "local0"


def run(options: argparse.Namespace) -> None:
    """Carry out `train`; see there."""
    console = terminal.console()
    train(options.db, options.output, options.setting, console, asked(options))
    place = Layout(options.output).output(_SITE)
    console.print(f"page: {shown(place / 'index.html')}")
    console.print(f"model: {shown(place / 'model' / 'best.json')}")


def train(db: Path, output: Path, settings: Sequence[str], console: Console, changes: Changes | None = None) -> Result:
    """Train on one database.

    Parameters
    ----------
    db : Path
        The scans.
    output : Path
        Folder for everything the run writes.
    settings : sequence of str
        `NAME=VALUE`, values as JSON.
    console : Console
        Where to show the run.
    changes : Changes, optional
        Additions to its inputs.

    Returns
    -------
    Result
        Of the simulated consortium of one.

    Raises
    ------
    SettingsError
        If a setting is unknown or does not fit; nothing has been started then.
    StoreError
        If the database cannot be opened, or has no scan to train on.
    SimulatorError
        If the output folder cannot be used, or the run fails.
    """
    inputs = inputs_of(db, settings)
    sites = output / "site"
    _link(db, sites / _SITE / RUN)
    return simulate(
        [{name: {"value": value} for name, value in inputs.items()}],
        inputs=sites,
        output=output,
        changes=changes,
        console=console,
    )


def _link(db: Path, place: Path) -> None:
    """Make a link to the database all that is in a folder: the run links or copies it from there, and only reads it."""
    target = db.resolve()
    try:
        place.mkdir(parents=True, exist_ok=True)
        found = list(place.iterdir())
        if foreign := [old for old in found if not old.is_symlink()]:
            text = "the folder for the run's scans holds files that no earlier run left there; choose another --output"
            raise SimulatorError(text, str(foreign[0]))
        for old in found:
            old.unlink()
        (place / _name(db)).symlink_to(target)
    except OSError as error:
        raise SimulatorError(unwritable("output"), str(error)) from error


def _name(db: Path) -> str:
    """Return what the database is called in the run: as it is, if that is a text which can travel."""
    return db.name if is_encodable(db.name) else "site.db"


def inputs_of(db: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Return the inputs of a run on one database, checked; the classes are the database's unless they are set.

    Raises
    ------
    SettingsError
        If a setting is not `NAME=VALUE`, is unknown, or does not fit.
    StoreError
        If the database cannot be opened, or has no scan to train on.
    """
    inputs: dict[str, Any] = dict(_assigned(text) for text in settings)
    if "data" in inputs:
        raise SettingsError("setting 'data' is the database on the command line; leave it out")
    chosen, _ = parse(inputs)
    with open_store(db, classes=chosen.classes) as store:
        if "classes" not in inputs and store.label_names != Settings().classes:
            inputs["classes"] = list(store.label_names)
        if not store.scans("train"):
            raise StoreError("the scan database has no scan to train on; import some with split 'train'", str(db))
    inputs["data"] = [_name(db)]
    # Nothing leaves the machine, so few scans validate as well as many.
    inputs.setdefault("min_scans", 1)
    parse(inputs)
    return inputs


def _assigned(text: str) -> tuple[str, Any]:
    """Split `NAME=VALUE`; a value that is not JSON is a word, so that `strategy=fedavg` needs no quotes."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingsError(f"a setting is {text[:60]!r}; wanted NAME=VALUE, such as epochs=20")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value
