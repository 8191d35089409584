"""The results so far: one CSV that grows with every finished arm, and beside it, as JSON, what it was made with."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.oasis.options import SINGLE
from benchmarks.oasis.outcome import Dices


@dataclass(frozen=True)
class Job:
    """One training: an arm under an effect with a seed, and of one site where each site trains alone."""

    arm: str
    effect: str
    seed: int
    site: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.arm, self.site, f"({self.effect}, seed {self.seed})") if part)


@dataclass(frozen=True)
class Row:
    """One test person under one arm, and under one site's model where the sites end with models of their own."""

    arm: str
    effect: str
    seed: int
    spacing: float
    site: str
    person: str
    age: str
    background: float | None
    white: float | None
    grey: float | None
    foreground: float | None
    with_background: float | None
    seconds: float
    rounds: int
    steps: int
    bytes_sent: int
    bytes_received: int
    parameters: int
    load: float

    @property
    def job(self) -> Job:
        """Which training it comes from."""
        return Job(self.arm, self.effect, self.seed, self.site if self.arm in SINGLE else "")


def load(path: Path) -> list[Row]:
    """Read the rows of a CSV; there are none if there is no file."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        text = io.StringIO(file.read(_whole(path)).decode(), newline="")
        return [
            Row(**{item.name: _value(item.type, raw[item.name]) for item in fields(Row)})
            for raw in csv.DictReader(text)
        ]


def _value(kind: Any, text: str) -> Any:
    if "None" in str(kind) and not text:
        return None
    return {"str": str, "int": int}.get(str(kind), float)(text)


def append(path: Path, rows: Sequence[Any]) -> None:
    """Add rows, dataclasses or dicts of one kind, in one write that is on the disk when this returns."""
    tables = [row if isinstance(row, dict) else asdict(row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(tables[0]), lineterminator="\n")
    kept = _whole(path) if path.exists() else 0
    if not kept:
        writer.writeheader()
    writer.writerows(tables)
    with path.open("ab") as file:
        # What a killed run wrote of a line is no line.
        file.truncate(kept)
        file.write(text.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def _whole(path: Path) -> int:
    """Return the length of the whole lines of a file."""
    return path.read_bytes().rfind(b"\n") + 1


def rows_of(
    job: Job, spacing: float, outcome: Any, found: dict[str, Dices], ages: dict[str, str], busy: float
) -> list[Row]:
    """Return a row for each test person of one model."""
    made = []
    for person, dices in found.items():
        foreground, everything = _mean(dices[1:]), _mean(dices)
        costs = (round(outcome.seconds, 2), outcome.rounds, outcome.steps, outcome.sent, outcome.received)
        values = [None if value is None else round(value, 6) for value in (*dices, foreground, everything)]
        who = (job.arm, job.effect, job.seed, spacing, outcome.site, person, ages[person])
        made.append(Row(*who, *values, *costs, outcome.parameters, round(busy, 2)))
    return made


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def agree(path: Path, facts: dict[str, Any]) -> list[str]:
    """Compare what a run is to be made with with what its CSV was; write it down if there is nothing yet.

    Returns
    -------
    list of str
        What differs; empty where the run may go on.
    """
    facts = json.loads(json.dumps(facts))
    beside = path.with_suffix(".json")
    if not path.exists() or not beside.exists():
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return []
    held = json.loads(beside.read_text(encoding="utf-8"))
    flat, wanted = _flat(held), _flat(facts)
    return [
        f"{name}: {flat.get(name)} in the file, {wanted.get(name)} now"
        for name in sorted({*flat, *wanted})
        if flat.get(name) != wanted.get(name)
    ]


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat
