"""What a node leaves behind beside its model: metrics.csv and a page, both made from its journal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computation.report import words
from computation.report.chart import Series, chart
from computation.report.markup import Markup, element, join
from computation.report.page import framed
from computation.report.tables import Column, table
from computation.tracking import journal, lines
from computation.tracking.journal import Entry

__all__ = ["write"]

_COLUMNS = ("round", "accuracy", "maturity", "loss", "samples", "kept", "averaged with", "received", "again", "sent")
_NOTE = "This page holds measures only: no data, no file name and no person. Others are named by their network keys."
_MOST_FAULTS = 50


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """Write both files.

    Parameters
    ----------
    folder : Path
        Of the node's output; its `journal.jsonl` is read.
    result : mapping
        What `result.json` holds.

    Raises
    ------
    MeshNetError
        If a file cannot be written.
    """
    entries = journal.read(folder / "journal.jsonl")
    turns = [entry for entry in entries if entry["event"] == "turn"]
    lines.replace(folder / "metrics.csv", _metrics(turns))
    faults = Counter((entry["sender"], entry["fault"]) for entry in entries if entry["event"] == "refused")
    lines.replace(folder / "index.html", _page(result, turns, faults))


def _metrics(turns: Sequence[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in turns:
        row = {**entry, "averaged with": _partner(entry)}
        writer.writerow([row.get(name, "") for name in _COLUMNS])
    return text.getvalue()


def _partner(entry: Entry) -> str:
    own = entry.get("own", "")
    return "; ".join(name for name in entry["counted"] if name != own)


def _page(result: Mapping[str, Any], turns: Sequence[Entry], faults: Counter[tuple[str, str]]) -> Markup:
    digest = str(result["digest"])[:12]
    lead = f"Accuracy {result['accuracy']:.3f} after {result['maturity']} training cycles; model {digest}."
    header = element(
        "header",
        element("p", "Training in a swarm with no coordinator", class_="kicker"),
        element("h1", "A swarm's node"),
        element("p", lead, class_="lead"),
    )
    parts = [
        ("In numbers", _numbers(result)),
        ("Over time", join(_accuracy(turns), _bytes(turns)) if turns else None),
        ("Averaged with", _partners(turns)),
        ("What was refused", _faults(faults)),
    ]
    return framed(f"A swarm's node, model {digest}", header, parts, _NOTE)


def _numbers(result: Mapping[str, Any]) -> Markup:
    names = [name for name, value in result.items() if value is not None]
    return table([Column("what", names, ""), Column("value", [result[name] for name in names], "code")])


def _accuracy(turns: Sequence[Entry]) -> Markup:
    points = tuple((float(one["round"]), one.get("accuracy")) for one in turns)
    return chart("Accuracy on what this node holds out", [Series("this node", points)], span=(0.0, 1.0))


def _bytes(turns: Sequence[Entry]) -> Markup:
    series = [
        Series(name, tuple((float(one["round"]), one.get(key)) for one in turns), colour)
        for colour, (name, key) in enumerate((("received", "received"), ("was here already", "again")), 1)
    ]
    return chart("Bytes", series, form=words.size)


def _partners(turns: Sequence[Entry]) -> Markup | None:
    count = Counter(name for one in turns if (name := _partner(one)))
    if not count:
        return None
    names = [name for name, _ in count.most_common()]
    return table([Column("node", names, "code"), Column("times", [count[name] for name in names])])


def _faults(faults: Counter[tuple[str, str]]) -> Markup | None:
    if not faults:
        return None
    rows = faults.most_common()
    columns = [
        Column("node", [sender or "–" for (sender, _), _ in rows], "code"),
        Column("why", [fault for (_, fault), _ in rows], ""),
        Column("times", [times for _, times in rows]),
    ]
    return table(columns, most=_MOST_FAULTS)
