"""The few questions that every reader of foreign JSON asks."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["is_digest", "is_number", "is_text"]


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a finite number (a boolean is not) that a float can hold."""
    # JSON has whole numbers of any length; comparing them is exact, where `math.isfinite` would raise OverflowError.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_text(value: Any, longest: int) -> bool:
    """Tell whether a JSON value is a printable text of at most `longest` characters."""
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def is_digest(value: Any) -> bool:
    """Tell whether a JSON value is a SHA-256 digest in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
