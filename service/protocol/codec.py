"""Records as JSON texts and back, the same in every store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from service.protocol.records import (
    Answer,
    Event,
    File,
    Membership,
    Presence,
    Record,
    Result,
    Run,
    Session,
    Step,
    Stored,
    Update,
    Upload,
)

__all__ = ["KINDS", "dump", "kind_of", "load"]

R = TypeVar("R", bound=Record)

#: The name of each kind of record, for rows and keys.
KINDS: dict[str, type[Any]] = {
    "run": Run,
    "membership": Membership,
    "presence": Presence,
    "step": Step,
    "upload": Upload,
    "update": Update,
    "event": Event,
    "answer": Answer,
    "session": Session,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def kind_of(record: Record) -> str:
    """Return the name of a record's kind."""
    return _NAMES[type(record)]


def dump(record: Record) -> str:
    """Return a record as canonical JSON."""
    # Frozen records have their fields, and nothing else, in their dictionary.
    return json.dumps(vars(record), default=vars, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load(kind: type[R], text: str) -> R:
    """Return the record that `dump` wrote."""
    values = json.loads(text)
    for name, convert in _CONVERT.get(kind, {}).items():
        values[name] = convert(values[name])
    return kind(**values)


def _result(raw: dict[str, Any] | None) -> Result | None:
    if raw is None:
        return None
    lists = {name: tuple(File(**file) for file in raw[name]) for name in ("files", "papers")}
    return Result(**{**raw, **lists})


def _pairs(raw: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((site, digest) for site, digest in raw)


_CONVERT: dict[type[Any], dict[str, Callable[[Any], Any]]] = {
    Step: {"expected": tuple, "frozen": _pairs, "result": _result},
    Update: {"files": lambda raw: tuple(Stored(**file) for file in raw)},
    Upload: {"file": lambda raw: Stored(**raw)},
}
