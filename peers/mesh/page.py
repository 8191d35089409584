"""What a requester leaves behind beside its model: metrics.csv and a page, both made from its journal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computation.report import words
from computation.report.chart import Series, chart
from computation.report.markup import Markup, element
from computation.report.page import framed
from computation.report.tables import Column, table
from computation.tracking import journal, lines
from computation.tracking.journal import Entry
from peers.mesh import diary

__all__ = ["write"]

_COLUMNS = ("time", "provider", "cycle", "loss", "seconds")
_NOTE = "This page holds measures only: no data and no file name. Providers are named as the requester knows them."


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write both files.

    Parameters
    ----------
    folder : Path
        Of the requester's output; its `journal.jsonl` is read.
    found : mapping
        What `metrics.json` holds.

    Raises
    ------
    MeshNetError
        If a file cannot be written.
    """
    entries = journal.read(folder / "journal.jsonl")
    cycles = diary.cycles(entries)
    told = [entry for entry in entries if entry["event"] == "told"]
    lines.replace(folder / "metrics.csv", _metrics(cycles))
    lines.replace(folder / "index.html", _page(found, cycles, told))


def _metrics(cycles: Sequence[Entry]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cycles)
    return text.getvalue()


def _page(found: Mapping[str, Any], cycles: Sequence[Entry], told: Sequence[Entry]) -> Markup:
    header = element(
        "header",
        element("p", "Training by providers that were found", class_="kicker"),
        element("h1", "A mesh's task"),
        element("p", _lead(found), class_="lead"),
    )
    parts = [
        ("In numbers", _numbers(found)),
        ("On the way", _losses(cycles)),
        ("What was taken for what", _confusion(found.get("confusion"))),
        ("What happened", _told(told)),
    ]
    return framed("A mesh's task", header, parts, _NOTE)


def _lead(found: Mapping[str, Any]) -> str:
    accuracy = f"Accuracy {found['accuracy']:.3f}" if "accuracy" in found else f"Loss {found['loss']:.4g}"
    return f"{accuracy} on the test part, after {words.seconds(found['seconds'])} at the provider."


def _numbers(found: Mapping[str, Any]) -> Markup:
    shown = {name: value for name, value in found.items() if name not in ("confusion", "seconds")}
    return table([Column("what", list(shown), ""), Column("value", [words.score(value) for value in shown.values()])])


def _losses(cycles: Sequence[Entry]) -> Markup | None:
    names = sorted({entry["provider"] for entry in cycles})
    if not names:
        return None
    series = [
        Series(name, tuple((float(one["cycle"]), one["loss"]) for one in cycles if one["provider"] == name), colour)
        for colour, name in enumerate(names)
    ]
    return chart("Training loss of each provider, by cycle", series)


def _confusion(matrix: Sequence[Sequence[int]] | None) -> Markup | None:
    if not matrix:
        return None
    columns = [Column(f"as {place}", [row[place] for row in matrix]) for place in range(len(matrix))]
    return table([Column("class", list(range(len(matrix))), "code"), *columns])


def _told(told: Sequence[Entry]) -> Markup | None:
    if not told:
        return None
    return table([Column("when", [one["time"] for one in told], "code"), Column("what", [one["text"] for one in told])])
