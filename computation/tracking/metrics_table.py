"""metrics.csv: one row per round, for a spreadsheet, R or pandas."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from computation.cells import cell
from computation.errors import MeshNetError
from computation.tracking import lines
from computation.tracking.numbers import RoundNumbers

__all__ = ["MetricsTable"]

_PLAIN = ("loss", "own_loss", "learning_rate", "sites", "samples", "unreadable", "seconds", "own_seconds")
_LAST = ("sent", "received", "best", "digest")


class MetricsTable:
    """Writes one row per round; a round that is run again after a restart replaces its row.

    The columns are fixed by the class names: round, void, counted, skipped, clipped (each site with its reason or by
    name), loss, own_loss, learning_rate, sites, samples,
    unreadable, seconds, own_seconds, validated, `dice NAME` and `own dice NAME` for each class, sent, received, best
    and digest. A number that is not known is an empty cell; one that is not finite is NaN, Inf or -Inf.

    Parameters
    ----------
    path : Path
        The file, usually `metrics.csv`; made with the first row.
    classes : sequence of str
        Class names.

    Raises
    ------
    MeshNetError
        If the file is there with other columns.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self.classes = tuple(classes)
        dice = [f"{kind} {name}" for kind in ("dice", "own dice") for name in self.classes]
        self.columns = tuple(
            map(cell, ("round", "void", "counted", "skipped", "clipped", *_PLAIN, "validated", *dice, *_LAST))
        )
        self._last = self._go_on()

    def _go_on(self) -> int:
        lines.mend(self.path)
        rows = self._rows()
        if not rows:
            return 0
        if rows[0] != list(self.columns):
            raise MeshNetError(
                f"{self.path.name} in the output folder has other columns; give this run a folder of its own",
                str(self.path),
            )
        return max((_round(row) for row in rows[1:]), default=0)

    def _rows(self) -> list[list[str]]:
        if not self.path.exists():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file) if row]

    def write(self, numbers: RoundNumbers) -> None:
        """Write the row of one round.

        Raises
        ------
        MeshNetError
            If the file cannot be written.
        """
        row = self._row(numbers)
        # A table without a row is written whole: a power cut may have left a file of which even the header is gone.
        if 0 < self._last < numbers.round and self.path.exists():
            lines.append(self.path, _line(row))
        else:
            kept = [old for old in self._rows()[1:] if _round(old) != numbers.round]
            rows = sorted([*kept, [_cell(value) for value in row]], key=_round)
            lines.replace(self.path, "".join(f"{_line(item)}\n" for item in [self.columns, *rows]))
        self._last = max(self._last, numbers.round)

    def _row(self, numbers: RoundNumbers) -> list[Any]:
        validated = numbers.validated if numbers.validated >= 0 else None
        best = numbers.best if numbers.best >= 0 else None
        return [
            numbers.round,
            int(numbers.void),
            len(numbers.counted),
            "; ".join(f"{site}: {reason}" for site, reason in sorted(numbers.skipped.items())),
            "; ".join(numbers.clipped),
            *(getattr(numbers, name) for name in _PLAIN),
            validated,
            *(numbers.dice.get(name) for name in self.classes),
            *(numbers.own_dice.get(name) for name in self.classes),
            numbers.sent,
            numbers.received,
            best,
            numbers.digest,
        ]


def _round(row: Sequence[str]) -> int:
    return int(row[0]) if row[0].isdigit() else 0


def _cell(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return cell(value)


def _line(row: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(value) for value in row])
    return text.getvalue()
