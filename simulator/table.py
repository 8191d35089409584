"""A run's figures as a table on a console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from computation.checks import is_number
from computation.terminal import shown

__all__ = ["table"]


def table(summary: Mapping[str, Any], title: str) -> Table:
    """Return the figures of a run, and what its summary says of each site."""
    view = Table("", "value", title=title)
    for name, value in _flat({name: value for name, value in summary.items() if name != "sites"}):
        view.add_row(shown(name), shown(value))
    sites = summary["sites"]
    if isinstance(sites, Mapping):
        for site, facts in sites.items():
            view.add_section()
            for name, value in _flat(facts if isinstance(facts, Mapping) else {}):
                view.add_row(shown(f"{site}: {name}"), shown(value))
    return view


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name} ")
        else:
            rows.append((f"{prefix}{name}", f"{value:.4g}" if is_number(value) and value % 1 else str(value)))
    return rows
