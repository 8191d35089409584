"""The server's time: milliseconds since 1970, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "now"]

Clock = Callable[[], int]


def now() -> int:
    """Return the time of this machine."""
    return time.time_ns() // 1_000_000
