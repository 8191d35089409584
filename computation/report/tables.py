"""Tables whose numbers line up, and from which columns that nobody can fill are left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from computation.report import words
from computation.report.markup import Markup, element, join

__all__ = ["Column", "fold", "table"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name : str
        Its heading.
    cells : sequence
        One value for each row: markup, or anything else as escaped text.
    style : str
        `number` aligns to the right, `code` is for digests and names, empty is text.
    always : bool
        Whether to show it even when no row has a value.
    """

    name: str
    cells: Sequence[Any]
    style: str = "number"
    always: bool = False

    @property
    def empty(self) -> bool:
        """Whether no row has a value."""
        return not self.always and all(cell in ("", "–", None) for cell in self.cells)


def table(columns: Sequence[Column], *, marked: Sequence[bool] = (), most: int = sys.maxsize) -> Markup:
    """Return a table that scrolls sideways when the screen is narrow.

    Parameters
    ----------
    columns : sequence of Column
        The first one names the rows.
    marked : sequence of bool, optional
        Rows to stress.
    most : int, optional
        Rows to show; of more it is said how many.
    """
    shown = [column for place, column in enumerate(columns) if place == 0 or not column.empty]
    head = element("tr", *(element("th", column.name, scope="col", class_=column.style or None) for column in shown))
    body = [
        element("tr", *_cells(shown, place), class_="marked" if place < len(marked) and marked[place] else None)
        for place in range(min(most, len(columns[0].cells)))
    ]
    whole = element("table", element("thead", head), element("tbody", *body))
    scrolled = element("div", whole, class_="scroll", tabindex="0")
    left = len(columns[0].cells) - len(body)
    return join(
        scrolled, element("p", f"And {left} more; journal.jsonl has them all.", class_="quiet") if left else None
    )


def _cells(columns: Sequence[Column], place: int) -> list[Markup]:
    first, *rest = [(column.cells[place], column.style or None) for column in columns]
    cells = [element("td", cell, class_=style) for cell, style in rest]
    return [element("th", first[0], scope="row", class_=first[1]), *cells]


def fold(title: str, rows: int, body: Markup, *, short: int = 12) -> Markup:
    """Return a table under a title, folded away when it is longer than `short` rows."""
    heading = element("summary", title, " ", element("span", f"({words.count(rows)})", class_="quiet"))
    return element("details", heading, body, open="open" if rows <= short else None)
