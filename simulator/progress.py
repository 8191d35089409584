"""Live progress of a run: a bar on a terminal, one plain line each few seconds in a file or a pipe.

What must not wait for the end is told above it, once: how the sites differ, and that a site does not count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from computation.checks import is_number
from computation.terminal import shown
from computation.wire.messages import REASONS
from simulator.observer import Observer
from simulator.result import Cycle

__all__ = ["LiveProgress", "PlainProgress", "RunProgress", "line", "progress"]

_SHOWN = ("loss", "foreground_dice")
_EVERY = 5.0  # seconds between two plain lines
_PATIENCE = 12  # times that nothing new is not worth a line


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


def progress(console: Console) -> RunProgress:
    """Return what shows a run on this console."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class RunProgress(Observer):
    """Follows a run; a context manager.

    Parameters
    ----------
    console : Console
        Where to show it.

    Attributes
    ----------
    kept : int
        The last iteration that is over, from which the run could go on.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.kept = 0
        self._waiting: dict[str, int] = {}
        self._output: Mapping[str, Any] = {}
        self._rounds: int | None = None
        self._done = 0
        self._told: set[object] = set()

    def __enter__(self) -> RunProgress:
        """Begin to show it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Show it no longer."""

    def on_resume(self, iteration: int, plan: Mapping[str, Any]) -> None:
        """Show where the run goes on."""
        # The first iteration is the plan, and each one after it a round.
        self.kept, self._done = iteration, iteration - 1
        self._plan(plan)
        self._tell(f"going on after iteration {iteration}")
        self._show()

    def on_call(self, client: str, iteration: int) -> None:
        """Show that the node is waited for."""
        self._waiting = {**self._waiting, client: iteration}
        self._show()

    def on_reply(self, client: str, iteration: int, output: Mapping[str, Any]) -> None:
        """Show that the node has answered."""
        self._waiting = {name: count for name, count in self._waiting.items() if name != client}
        self._show()

    def on_cycle(self, cycle: Cycle, output: Mapping[str, Any]) -> None:
        """Show what the centre said; a plan with `rounds` gives the bar its length."""
        self._output, self.kept = output, cycle.iteration
        self._plan(output)
        self._done = output["round"] if isinstance(output.get("round"), int) else cycle.iteration
        self._tell_skipped(output)
        self._show()

    def _plan(self, output: Mapping[str, Any]) -> None:
        if isinstance(output.get("rounds"), int):
            self._rounds = output["rounds"]
        notes = output.get("notes")
        for note in notes if isinstance(notes, list) else []:
            self._tell(f"note: {note}")

    def _tell_skipped(self, output: Mapping[str, Any]) -> None:
        skipped = output.get("skipped")
        for site, reason in skipped.items() if isinstance(skipped, Mapping) else []:
            said = REASONS.get(str(reason), str(reason))
            if (site, said) not in self._told:
                self._told.add((site, said))
                self._tell(f"round {self._done}: {site} did not count: {said}")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.console.print(f"[yellow]{shown(text)}", soft_wrap=True, highlight=False)

    def _show(self) -> None:
        """Show where the run stands."""


class LiveProgress(RunProgress):
    """Shows a run on a terminal: one bar, and behind it what the centre said last."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        columns = (
            SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[line]}", markup=False),  # class names may hold brackets
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("run", total=None, line="starting")

    def __enter__(self) -> LiveProgress:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the bar."""
        self._progress.stop()

    def _show(self) -> None:
        text = line(self._output, self._waiting)
        self._progress.update(self._task, total=self._rounds, completed=self._done, line=text)


class PlainProgress(RunProgress):
    """Writes a line about a run each few seconds, if there is anything new; for files and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="progress", daemon=True)

    def __enter__(self) -> PlainProgress:
        """Begin to write."""
        self.console.print("starting the sites and the centre")
        self._writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Write no more."""
        self._ended.set()
        self._writer.join()

    def _write(self) -> None:
        last, quiet = "", 0
        while not self._ended.wait(_EVERY):
            text = self._line()
            quiet = quiet + 1 if text == last else 0
            if quiet % _PATIENCE == 0:
                seconds = time.monotonic() - self._began
                self.console.print(shown(f"{seconds:.0f} s · {text}"), soft_wrap=True, highlight=False)
            last = text

    def _line(self) -> str:
        count = f"{self._done}/{self._rounds}" if self._rounds else str(self._done)
        return " · ".join(filter(None, [count, line(self._output, self._waiting)]))
