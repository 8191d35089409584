"""HTML from nested calls: whatever is not made here is escaped, so a foreign string can never become markup."""

from __future__ import annotations

import html
import unicodedata
from typing import Any

__all__ = ["Markup", "element", "join", "text"]

_VOID = {"meta", "br", "col"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return any value as escaped text.

    Control characters, and those that turn the reading direction or hide, become U+FFFD: a name must look like what it
    is.
    """
    if isinstance(value, Markup):
        return value
    shown = "".join("\ufffd" if _hidden(letter) else letter for letter in str(value))
    return Markup(html.escape(shown, quote=True))


def _hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn") and letter not in "\n\t"


def join(*children: object) -> Markup:
    """Return children one after the other; strings among them are escaped, and `None` is nothing."""
    return Markup("".join(text(child) for child in children if child is not None))


def element(tag: str, /, *children: object, **attributes: Any) -> Markup:
    """Return an element, valid as HTML and as XML.

    Parameters
    ----------
    tag : str
        Its name.
    *children
        Markup, or anything else as escaped text.
    **attributes
        Values are escaped; an underscore in a name stands for a hyphen, one at its end for nothing; `None` leaves out.

    Examples
    --------
    >>> element("td", "<1>", class_="number")
    '<td class="number">&lt;1&gt;</td>'
    """
    pairs = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None]
    start = "".join([tag, *(f' {key}="{text(value)}"' for key, value in pairs)])
    return Markup(f"<{start} />" if tag in _VOID else f"<{start}>{join(*children)}</{tag}>")
