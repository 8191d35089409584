"""Names that others chose, as texts that only show and command nothing."""

from __future__ import annotations

import unicodedata

__all__ = ["plain"]


def plain(text: object, keep: str = "") -> str:
    """Return a text as one line that a terminal only shows: what is not printable is spelt, a lost byte as `\\xe9`.

    Parameters
    ----------
    text : object
        A name, a path, or whatever else has a text.
    keep : str
        Characters that stay although they are not printable, such as the line break.

    Examples
    --------
    >>> plain("sub\\x1b[2J-1")
    'sub\\\\x1b[2J-1'
    """
    text = str(text)
    return text if text.isprintable() else "".join(_letter(letter, keep) for letter in text)


def _letter(letter: str, keep: str) -> str:
    if letter.isprintable() or letter in keep or unicodedata.category(letter) == "Zs":
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte of a file name that is not UTF-8, as Python carries it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
