"""One place where a node's numbers go: journal, table, progress line and, if the site asks, Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from computation.tracking.journal import Journal
from computation.tracking.metrics_table import MetricsTable
from computation.tracking.numbers import RoundNumbers
from computation.tracking.progress import Progress, round_line
from computation.tracking.wandb import WandbLog

__all__ = ["Tracker"]


class Tracker:
    """What `local` and `remote` tell of a run. Making one opens and writes nothing.

    Parameters
    ----------
    folder : Path
        The node's own output folder: `journal.jsonl`, `metrics.csv`, `run.log` and, when asked for, `wandb/`.
    stream : text file, optional
        Where progress lines go; standard error by default.
    """

    def __init__(self, folder: Path, *, stream: TextIO | None = None) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self._progress = Progress(stream, folder / "run.log")
        self._table: MetricsTable | None = None
        self._wandb: WandbLog | None = None
        self._classes: tuple[str, ...] = ()
        self._rounds = 0

    def begin(
        self,
        *,
        run: str,
        rounds: int,
        classes: Sequence[str],
        site: str = "",
        wandb: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what is to come; called once the plan is known, and again after a restart.

        Parameters
        ----------
        run : str
            Name of the run.
        rounds : int
            Rounds planned.
        classes : sequence of str
            Class names, background first.
        site : str, optional
            This site's id; empty at the centre.
        wandb : mapping, optional
            The member's Weights & Biases object; empty is off, and then the library is not even imported.
        config : mapping, optional
            Settings to show at Weights & Biases.

        Raises
        ------
        MeshNetError
            If metrics.csv is there with other columns.
        """
        self.close()
        self._classes, self._rounds = tuple(classes), rounds
        self._table = MetricsTable(self.folder / "metrics.csv", classes)
        if wandb:
            self._wandb = WandbLog(wandb, self.folder / "wandb", self.journal)
            names = {f"class {place}": name for place, name in enumerate(classes)}
            self._wandb.start(run, site, {**(config or {}), **names})

    @property
    def position(self) -> int:
        """Where in the journal this node stands; belongs into its checkpoint."""
        return self.journal.position

    def go_on(self, position: int) -> None:
        """Say that this process goes on from a checkpoint: what was noted after it is done again, and noted again.

        Parameters
        ----------
        position : int
            `position` when the checkpoint was written.
        """
        self.journal.write("resumed", position=position)

    def event(self, name: str, **fields: Any) -> None:
        """Write one line into the journal; see `Journal.write`."""
        self.journal.write(name, **fields)

    def notice(self, kind: str, text: str, **fields: Any) -> None:
        """Write down something that must not be hidden: it goes into the journal and onto the report.

        Parameters
        ----------
        kind : str
            One word, such as `skipped`, `clipped`, `fallback`, `default` or `difference`.
        text : str
            One sentence. It stays at this node.
        **fields
            Details for the journal, such as `round`.
        """
        self.journal.write("notice", kind=kind, text=text, **fields)

    def say(self, text: str) -> None:
        """Write one progress line; it may be shown to people, so no path, subject or traceback."""
        self._progress.say(text)

    def round(self, numbers: RoundNumbers) -> None:
        """Put down one finished round everywhere.

        Raises
        ------
        MeshNetError
            If journal or table cannot be written; whatever Weights & Biases does is only a line in the journal.
        """
        self.journal.write("round", **numbers.as_json())
        if self._table is not None:
            self._table.write(numbers)
        if self._wandb is not None:
            self._wandb.round(numbers, self._classes)
        self._progress.say(round_line(numbers, self._rounds, self._classes))

    def close(self) -> None:
        """End what runs outside this process; journal and table need no closing."""
        if self._wandb is not None:
            self._wandb.close()
            self._wandb = None

    def __enter__(self) -> Tracker:
        """Return the tracker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
