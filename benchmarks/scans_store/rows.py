"""One line of the table."""

from __future__ import annotations

from pathlib import Path

__all__ = ["RESULTS", "Row", "row"]

RESULTS = Path(__file__).parents[1] / "results"

#: What was measured, the value, the bar and a note.
Row = dict[str, str]


def row(what: str, value: float, bar: str, note: str) -> Row:
    """Write a value with four digits."""
    return {"what": what, "value": f"{value:.4g}", "bar": bar, "note": note}
