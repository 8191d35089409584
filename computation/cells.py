"""What stands in a cell of a table that somebody will open in a spreadsheet."""

from __future__ import annotations

from typing import Any

from computation.printable import plain

__all__ = ["cell"]

#: With these, or their wide forms, a spreadsheet begins a formula, which may run a program or send the table away.
_FORMULA = tuple("=+-@＝＋－＠")


def cell(value: Any) -> str:
    """Return a value as the text of a cell: empty for `None`, one line, and never a formula.

    A text that a spreadsheet would compute gets an apostrophe in front, as OWASP advises ("CSV Injection"); a number
    is a number, whatever its sign. The text of a text that went through here is the same again.

    Examples
    --------
    >>> [cell(value) for value in (None, -0.5, "sub-1", "=1+1", "-0.5", "-x")]
    ['', '-0.5', 'sub-1', "'=1+1", '-0.5', "'-x"]
    """
    if value is None:
        return ""
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
