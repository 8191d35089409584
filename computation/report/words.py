"""Numbers as a reader wants them: aligned, rounded to what they mean, and a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["count", "listed", "number", "score", "seconds", "size", "tick"]

_UNKNOWN = "–"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, zeros at the end included."""
    return f"{value:#.{digits}g}".removesuffix(".") if value is not None and _known(value) else _UNKNOWN


def listed(items: Sequence[str], most: int = 20) -> str:
    """Return texts one after the other; of more than so many, how many more there are."""
    shown = "; ".join(items[:most])
    return f"{shown}; and {len(items) - most} more" if len(items) > most else shown


def tick(value: float) -> str:
    """Return a number of an axis, as short as it can be."""
    return f"{value:.4g}"


def score(value: float | None) -> str:
    """Return a Dice coefficient with three decimals."""
    return f"{value:.3f}" if value is not None and _known(value) else _UNKNOWN


def count(value: float | None) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f") if value is not None and _known(value) else _UNKNOWN


def size(value: float | None) -> str:
    """Return bytes in the unit that fits (1 kB is 1,000 bytes)."""
    if value is None or not _known(value):
        return _UNKNOWN
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """Return a duration in the unit that fits."""
    if value is None or not _known(value):
        return _UNKNOWN
    if value == 0:
        return "0 s"
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    if value < 120:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, hours = value / 60, value / 3600
    return f"{minutes:.1f} min" if minutes < 120 else f"{hours:.1f} h"
