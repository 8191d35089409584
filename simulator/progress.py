"""Live progress of a run: one bar, and below it what the centre said last."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from computation.checks import is_number
from simulator.observer import Observer
from simulator.result import Cycle

__all__ = ["LiveProgress", "line"]

_SHOWN = ("loss", "foreground_dice")


def line(output: Mapping[str, Any], waiting: Mapping[str, int]) -> str:
    """Return one line about a run.

    Parameters
    ----------
    output : mapping
        The centre's last output; of `phase`, `loss`, `foreground_dice`, `dice`, `metrics` and `missing`, what is there
        is shown.
    waiting : mapping of int
        Nodes that have been called and have not answered, with their iteration.
    """
    tables = [table for table in (output.get("metrics"), output.get("dice")) if isinstance(table, Mapping)]
    named = {name: output.get(name) for name in _SHOWN}
    for table in tables:
        named.update(table)
    numbers = [f"{name} {value:.4g}" for name, value in named.items() if is_number(value)]
    phase = [str(output["phase"])] if isinstance(output.get("phase"), str) else []
    missing = output.get("missing")
    lacking = [f"validated without {', '.join(sorted(missing))}"] if isinstance(missing, Mapping) and missing else []
    waits = [f"waiting for {', '.join(sorted(waiting))}"] if waiting else []
    return " · ".join(phase + numbers + lacking + waits)


class LiveProgress(Observer):
    """Shows a run on a terminal; a context manager.

    Parameters
    ----------
    console : Console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[line]}", markup=False),  # class names may hold brackets
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("run", total=None, line="starting")
        self._waiting: dict[str, int] = {}
        self._output: Mapping[str, Any] = {}
        self._rounds: int | None = None

    def __enter__(self) -> LiveProgress:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the bar."""
        self._progress.stop()

    def on_call(self, client: str, iteration: int) -> None:
        """Show that the node is waited for."""
        self._waiting[client] = iteration
        self._show()

    def on_reply(self, client: str, iteration: int, output: Mapping[str, Any]) -> None:
        """Show that the node has answered."""
        self._waiting.pop(client, None)
        self._show()

    def on_cycle(self, cycle: Cycle, output: Mapping[str, Any]) -> None:
        """Show what the centre said; a plan with `rounds` gives the bar its length."""
        self._output = output
        if isinstance(output.get("rounds"), int):
            self._rounds = output["rounds"]
        done = output["round"] if isinstance(output.get("round"), int) else cycle.iteration
        self._progress.update(self._task, total=self._rounds, completed=done)
        self._show()

    def _show(self) -> None:
        self._progress.update(self._task, line=line(self._output, self._waiting))
