"""The journal: everything that happened at this node, one JSON object per line, never overwritten."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from computation.tracking import lines

__all__ = ["Entry", "Journal", "read"]

#: One line of the journal: `time` (UTC, ISO 8601), `sequence` (from 0, growing over restarts), `event`, and its fields.
Entry = dict[str, Any]

_RESERVED = ("time", "sequence", "not_finite")
_AS_IT_IS = frozenset((str, int, bool, type(None)))
#: Made once: this runs at every node in every round.
_encoded = json.JSONEncoder(allow_nan=False).encode


class Journal:
    """Appends events to a file of JSON lines; a restarted process goes on where the last one stopped.

    Nothing is opened before the first event. Each line is strict JSON: NumPy scalars and arrays become numbers and
    lists, and a number that is not finite becomes null and is named, with what it was, in the field `not_finite`.

    Parameters
    ----------
    path : Path
        The file, usually `journal.jsonl`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = -1

    @property
    def position(self) -> int:
        """Sequence number of the next line; 0 before the first one that this process writes."""
        return max(self._next, 0)

    def write(self, event: str, **details: Any) -> None:
        """Append one event; it has reached the operating system when this returns.

        Parameters
        ----------
        event : str
            What happened, such as `plan` or `round`.
        **details
            Anything JSON can hold, besides dataclasses, sets, paths and NumPy values.

        Raises
        ------
        ValueError
            If a detail has the name of a field that every line has.
        MeshNetError
            If the file cannot be written.
        """
        if clash := sorted(set(details) & set(_RESERVED)):
            raise ValueError(f"a journal line has its own field {clash[0]!r}; name the detail otherwise")
        if self._next < 0:
            self._go_on()
        self._append(event, details)

    def _go_on(self) -> None:
        lost = lines.mend(self.path)
        self._next = 1 + max((entry.get("sequence", -1) for entry in read(self.path)), default=-1)
        if lost:
            self._append("journal-mended", {"lost_bytes": lost})

    def _append(self, event: str, details: Mapping[str, Any]) -> None:
        odd: dict[str, str] = {}
        clean = {name: _plain(value, name, odd) for name, value in details.items()}
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        entry = {"time": now, "sequence": self._next, "event": event, **clean}
        if odd:
            entry["not_finite"] = odd
        lines.append(self.path, _encoded(entry))
        self._next += 1


def read(path: Path) -> tuple[Entry, ...]:
    """Return the entries of a journal, whatever state it was left in.

    A half-written last line is left out: it never happened. A line in the middle that is not a JSON object becomes an
    entry with the event `unreadable-line`, so that damage is seen. A missing file has no entries.
    """
    return tuple(_entry(number, line) for number, line in enumerate(lines.whole_lines(path), start=1))


def _entry(number: int, line: str) -> Entry:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if isinstance(entry, dict) and isinstance(entry.get("event"), str) and _is_count(entry.get("sequence")):
        return entry
    return {"event": "unreadable-line", "line": number}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any, where: str, odd: dict[str, str]) -> Any:
    """Return a value as strict JSON, and note in `odd` each number that is not finite."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        odd[where] = str(value)
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}", odd) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in fields(value)}, where, odd)
    return _plain_list(value, where, odd)


def _plain_list(value: Any, where: str, odd: dict[str, str]) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{place}", odd) for place, item in enumerate(value)]
    return str(value)
