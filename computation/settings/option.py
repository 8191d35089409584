"""One setting: its default, and how it is checked and shown."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from computation.checks import is_number

__all__ = ["Option", "choice", "flag", "number", "setting", "whole"]


@dataclass(frozen=True)
class Option:
    """How one setting is checked and shown.

    Attributes
    ----------
    check : callable
        Takes the raw JSON value and returns the clean one, or raises `ValueError` saying what was wanted.
    kind : str
        COINSTAC's input type: `number`, `string`, `select`, `object`, `files`, `csv` or `boolean`.
    help : str
        One sentence for the person who fills the form.
    group : str
        Heading under which the form shows it.
    values : tuple of str
        The choices of a `select`.
    low, high : float or None
        Bounds shown in the form.
    """

    check: Callable[[Any], Any]
    kind: str
    help: str
    group: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


def setting(default: Any, option: Option) -> Any:
    """Declare a field of a settings record; a dict becomes a default factory."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"option": option})
    return field(default=default, metadata={"option": option})


def choice(default: str, values: tuple[str, ...], group: str, text: str) -> Any:
    """Declare a setting that is one of some texts."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in values:
            return value
        near = difflib.get_close_matches(str(value), values, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"one of {', '.join(values)}{hint}")

    return setting(default, Option(check, "select", text, group, values=values))


def whole(default: int, low: int, high: int, group: str, text: str) -> Any:
    """Declare a setting that is a whole number, both bounds among them."""

    def check(value: Any) -> int:
        if is_number(value) and value == int(value) and low <= value <= high:
            return int(value)
        raise ValueError(f"a whole number from {low} to {high}")

    return setting(default, Option(check, "number", text, group, low=low, high=high))


def number(default: float, low: float, high: float, group: str, text: str, *, positive: bool = False) -> Any:
    """Declare a setting that is a number, both bounds among them, or not zero where it must be positive."""

    def check(value: Any) -> float:
        if is_number(value) and low <= value <= high and not (positive and value == 0):
            return float(value)
        wanted = f"a number above {low:g} and at most {high:g}" if positive else f"a number from {low:g} to {high:g}"
        if is_number(value) and value == 0:
            wanted += "; the COINSTAC app cuts a member's decimals to whole numbers, so let the owner set it"
        raise ValueError(wanted)

    return setting(default, Option(check, "number", text, group, low=low, high=high))


def flag(default: bool, group: str, text: str) -> Any:
    """Declare a setting that is true or false."""

    def check(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")

    return setting(default, Option(check, "boolean", text, group))
