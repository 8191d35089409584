"""Ids that sort by the time at which they were made: version 7 of RFC 9562."""

from __future__ import annotations

import re
import secrets
import threading
import uuid

__all__ = ["earliest", "identifier", "is_identifier"]

_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_lock = threading.Lock()
_last = [0]


def identifier(now: int) -> str:
    """Return a new id; within a process each is later than the one before, whatever the clock does.

    Parameters
    ----------
    now : int
        Milliseconds since 1970.
    """
    with _lock:
        # 48 bits of time and 12 that count within it, as RFC 9562 allows; 62 random ones tell processes apart.
        _last[0] = max(now << 12, _last[0] + 1)
        time, count = _last[0] >> 12, _last[0] & 0xFFF
    return str(uuid.UUID(int=time << 80 | 7 << 76 | count << 64 | 2 << 62 | secrets.randbits(62)))


def earliest(now: int) -> str:
    """Return a text that sorts before every id made at a time or later, and after those made before."""
    return str(uuid.UUID(int=now << 80))


def is_identifier(text: object) -> bool:
    """Tell whether a foreign value has the form of an id that `identifier` makes."""
    return isinstance(text, str) and _PATTERN.fullmatch(text) is not None
