"""Reading foreign JSON, and the few questions that every reader of it asks."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, NoReturn

__all__ = ["is_digest", "is_encodable", "is_number", "is_plain_name", "is_text", "parse_json"]

#: Objects and lists within each other: ours have at most eight, and Python's own limit depends on who calls.
_DEEPEST = 32
#: Bits of a whole number that a float can still hold.
_WIDEST = sys.float_info.max_exp


def parse_json(text: bytes | str) -> Any:
    """Read JSON that somebody else wrote, more strictly than Python does.

    Parameters
    ----------
    text : bytes or str
        UTF-8, with or without a byte order mark. How long it may be is for the caller to say before it is read.

    Returns
    -------
    object
        With finite numbers only, whole ones that a float can hold, no name twice in an object, and texts that UTF-8
        can carry.

    Raises
    ------
    ValueError
        If it is anything else; the text says what, and repeats nothing of it but numbers' names.
    """
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        value = json.loads(plain, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("objects or lists are nested too deeply") from None
    if fault := _fault(value):
        raise ValueError(fault)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; a name that it holds twice is an error, where Python would take the last one's value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _fault(value: Any) -> str:
    """Say what is wrong with anything inside a value, or nothing; level by level, so that no depth can overflow."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        below: list[Any] = []
        for item in level:
            if type(item) is str and item.isascii():  # as most are
                continue
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif fault := _scalar_fault(item):
                return fault
        if not below:
            return ""
        level = below
    return "objects or lists are nested too deeply"


def _scalar_fault(item: Any) -> str:
    if isinstance(item, float) and not math.isfinite(item):
        return "a number is too large"
    if isinstance(item, int) and item.bit_length() > _WIDEST:
        return "a number is too large"
    if isinstance(item, str) and not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
        return "a text holds half a letter"
    return ""


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a finite number (a boolean is not) that a float can hold."""
    # JSON has whole numbers of any length; comparing them is exact, where `math.isfinite` would raise OverflowError.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_text(value: Any, longest: int) -> bool:
    """Tell whether a JSON value is a printable text of at most `longest` characters."""
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def is_plain_name(value: Any) -> bool:
    """Tell whether a folder, and a sentence, can be made of a name; one of at most 200 characters."""
    return is_text(value, 200) and value not in ("", ".", "..") and "/" not in value


def is_digest(value: Any) -> bool:
    """Tell whether a JSON value is a SHA-256 digest in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def is_encodable(text: str) -> bool:
    """Tell whether a name or path is text: one with a byte that the locale cannot read holds half letters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
