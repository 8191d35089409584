"""One text for each JSON value, so that equal values have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["canonical", "digest_of"]


def canonical(value: Any) -> str:
    """Return a JSON value as the one text that stands for it: names sorted, no blanks, ASCII, finite numbers.

    Raises
    ------
    ValueError
        If a number is not finite.
    TypeError
        If a value is not JSON's.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
