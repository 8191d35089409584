"""What all messages share: the protocol's version, bounds, and how a record becomes JSON."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from computation.wire.messages import seal
from computation.wire.reader import Reader

__all__ = ["MOST_GRID", "MOST_ROUNDS", "MOST_SCANS", "PROTOCOL", "enveloped", "is_count", "opened", "plain"]

#: Version of this protocol, messages and payloads together; sites that speak another one are refused at join.
PROTOCOL = 3

MOST_ROUNDS = 2**31 - 1
#: Scans that one part of a site's split may have: as many as the largest imaging study there is, UK Biobank's.
MOST_SCANS = 100_000
_SCALARS, _LISTS = (str, int, float), (list, tuple)
#: Voxels that one scan may have, as in a scan database.
MOST_GRID = 2**31


def is_count(value: Any, most: int) -> bool:
    """Tell whether a foreign value is a number of voxels or scans, of at most so many."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def opened(kind: str, phase: str, raw: Any) -> Reader:
    """Return a reader of a message past its envelope; raises `MessageError` for another protocol or phase."""
    reader = Reader(kind, raw)
    reader.constant("protocol", PROTOCOL)
    reader.constant("phase", phase)
    seal.skip(reader)
    return reader


def enveloped(phase: str, record: Any) -> dict[str, Any]:
    """Return a message as plain JSON, in the envelope that `opened` takes off."""
    return {"protocol": PROTOCOL, "phase": phase, **plain(record)}


def plain(record: Any) -> dict[str, Any]:
    """Return a record's fields as JSON has them; `dataclasses.asdict` would copy every value deeply, every round."""
    return {name: _listed(getattr(record, name)) for name in _names(record.__class__)}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


def _listed(value: Any) -> Any:
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_listed(item) for item in value]
    return plain(value) if is_dataclass(value) else value
