"""The results so far: one CSV that grows with every finished arm, and beside it, as JSON, what it was made with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.oasis import ledger
from benchmarks.oasis.native import Score
from benchmarks.oasis.options import SINGLE
from benchmarks.oasis.outcome import Outcome
from computation.training.metrics import mean

#: Names the columns that together stand for one row.
KEY = ("arm", "effect", "seed", "site", "person")


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
    """One test person under one arm, and under one site's model where the sites end with models of their own.

    Files from before the last eight columns were there give `None` and an empty text for them.
    """

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
    cpu_seconds: float | None = None
    commit: str = ""
    native_white: float | None = None
    native_grey: float | None = None
    native: float | None = None
    far_mm: float | None = None
    multiple: float | None = None
    touched: float | None = None

    @property
    def job(self) -> Job:
        """Which training it comes from."""
        return Job(self.arm, self.effect, self.seed, self.site if self.arm in SINGLE else "")


def load(path: Path) -> list[Row]:
    """Read the rows of a CSV; there are none if there is no file.

    Raises
    ------
    ValueError
        If two rows are of the same training, site and person: means would count these twice.
    """
    table = ledger.read(path)
    ledger.refuse_doubles(path, table, KEY)
    return [Row(**{item.name: _value(item.type, raw.get(item.name) or "") for item in fields(Row)}) for raw in table]


def _value(kind: Any, text: str) -> Any:
    if "None" in str(kind) and not text:
        return None
    return {"str": str, "int": int}.get(str(kind), float)(text)


def rows_of(
    job: Job,
    outcome: Outcome,
    found: dict[str, Score],
    ages: dict[str, str],
    *,
    spacing: float,
    load: float,
    commit: str,
) -> list[Row]:
    """Return a row for each test person of one model."""
    made = []
    for person, score in found.items():
        dices = score.conformed
        values = (*dices, mean(dices[1:]), mean(dices), *score.native[1:], mean(score.native[1:]))
        background, white, grey, foreground, everything, native_white, native_grey, native = (
            None if value is None else round(value, 6) for value in values
        )
        made.append(
            Row(
                **asdict(job) | {"site": outcome.site},
                spacing=spacing,
                person=person,
                age=ages[person],
                background=background,
                white=white,
                grey=grey,
                foreground=foreground,
                with_background=everything,
                seconds=round(outcome.spent.seconds, 2),
                rounds=outcome.rounds,
                steps=outcome.steps,
                bytes_sent=outcome.sent,
                bytes_received=outcome.received,
                parameters=outcome.parameters,
                load=round(load, 2),
                cpu_seconds=round(outcome.spent.cpu_seconds, 2),
                commit=commit,
                native_white=native_white,
                native_grey=native_grey,
                native=native,
                far_mm=round(score.far, 2),
                multiple=round(outcome.multiple, 2),
                touched=outcome.touched,
            )
        )
    return made


def agree(path: Path, facts: dict[str, Any]) -> list[str]:
    """Compare what a run is to be made with with what its CSV was; write it down if there are no rows yet.

    Returns
    -------
    list of str
        What differs; empty where the run may go on.
    """
    facts = json.loads(json.dumps(facts))
    beside = path.with_suffix(".json")
    rows = load(path)
    if rows and not beside.exists():
        return [f"{path.name} has {len(rows)} rows, and no {beside.name} says what made them"]
    if not rows:
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
