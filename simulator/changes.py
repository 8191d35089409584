"""What the command line adds to every site's inputs: a model to start from, and a time for the training."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from computation.errors import ModelError, SimulatorError
from computation.printable import plain

__all__ = ["Changes", "add_options", "asked", "seconds_until", "starting_from"]


@dataclass(frozen=True)
class Changes:
    """Additions to a run's inputs.

    Attributes
    ----------
    settings : dict
        Owner settings for every site; they take the place of the inputspec's.
    files : dict of bytes
        Contents, by name, of files that the first site gets besides its own, and names in `data`.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def made(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
        """Return the inputs of each site with the additions.

        Raises
        ------
        SimulatorError
            If the first site does not name its data as a list, to which the files could be added.
        """
        made = [{**task, **self.settings} for task in tasks]
        if self.files:
            data = made[0].get("data")
            if not isinstance(data, list | tuple):
                raise SimulatorError("the first site names no list 'data', to which the model's files could be added")
            made[0]["data"] = [*data, *self.files]
        return tuple(made)


def starting_from(card: Path) -> Changes:
    """Return what makes a run start from an exported model.

    Parameters
    ----------
    card : Path
        Its JSON, or a folder that holds `best.json`, `final.json` or `model.json`.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    from computation.model import exported  # NumPy, which the command line otherwise does without

    names = ("model.json", "best.json", "final.json", "model/best.json", "model/final.json")
    if card.is_dir():
        card = next((card / name for name in names if (card / name).is_file()), card / "best.json")
    digest, tensors = exported.identify(card)
    try:
        # Read now: a model may lie in the output folder of an earlier run, which is moved aside before this one begins.
        return Changes({"initial_model": digest}, {path.name: path.read_bytes() for path in (card, tensors)})
    except OSError as error:
        raise ModelError("the model to start from cannot be read", str(error)) from error


def seconds_until(text: str, now: datetime | None = None) -> float:
    """Return the seconds that a deadline leaves.

    Parameters
    ----------
    text : str
        A number of seconds; a time of day such as 06:30, the next one; or a date and time such as 2026-01-31T06:30.
    now : datetime, optional
        Local time; the clock's by default.

    Raises
    ------
    ValueError
        If it is none of these, or is over.
    """
    now = now or datetime.now()
    try:
        seconds = float(text)
    except ValueError:
        seconds = (_moment(text, now) - now).total_seconds()
    if not 0 < seconds <= 31_536_000:
        raise ValueError("a deadline lies up to a year ahead")
    return round(seconds, 1) or 0.1


def _moment(text: str, now: datetime) -> datetime:
    try:
        clock = datetime.strptime(text, "%H:%M")
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment.astimezone().replace(tzinfo=None)
    today = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `train` takes, too."""
    parser.add_argument(
        "--initial-model", type=Path, metavar="FILE", help="start from an exported model: its JSON, or its folder"
    )
    parser.add_argument(
        "--deadline",
        metavar="TIME",
        help="end the training by then, with the model that it has: seconds, 06:30, or 2026-01-31T06:30",
    )


def asked(options: argparse.Namespace) -> Changes:
    """Return what those options add to every site's inputs.

    Raises
    ------
    SimulatorError
        If the deadline is none.
    ModelError
        If the model cannot be read.
    """
    made = starting_from(options.initial_model) if options.initial_model else Changes()
    if options.deadline is None:
        return made
    try:
        seconds = seconds_until(options.deadline)
    except ValueError as error:
        raise SimulatorError(
            f"--deadline is {plain(options.deadline)[:40]!r}; wanted seconds, a time such as 06:30, or a date "
            "and time such as 2026-01-31T06:30, up to a year ahead"
        ) from error
    return replace(made, settings={**made.settings, "deadline": seconds})
