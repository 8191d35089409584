"""Records as JSON texts and back, the same in every store."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
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
#: Kinds that are read again and again while a step is open, and in which nothing can be changed; and the characters of
#: a text that is kept for that.
_LASTING, _SHORT = frozenset({Run, Membership, Step, Update}), 8_192


def kind_of(record: Record) -> str:
    """Return the name of a record's kind."""
    return _NAMES[type(record)]


def dump(record: Record) -> str:
    """Return a record as canonical JSON."""
    # Frozen records have their fields, and nothing else, in their dictionary.
    return json.dumps(vars(record), default=vars, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load(kind: type[R], text: str) -> R:
    """Return the record that `dump` wrote; equal texts may be one object."""
    if kind in _LASTING and len(text) <= _SHORT:
        known: R = _known(_NAMES[kind], text)
        return known
    return _read(kind, text)


def _read(kind: type[R], text: str) -> R:
    values = json.loads(text)
    for name, convert in _CONVERT.get(kind, {}).items():
        values[name] = convert(values[name])
    return kind(**values)


@lru_cache(maxsize=48)
def _known(name: str, text: str) -> Any:
    return _read(KINDS[name], text)


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
