"""A strategy's state among the other arrays of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from computation.strategies.base import Strategy

__all__ = ["recall", "remember"]

_PREFIX = "strategy."


def remember(strategy: Strategy) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return a strategy's state: arrays under names that nothing else in a checkpoint has, and plain JSON."""
    arrays, values = strategy.state()
    return {f"{_PREFIX}{name}": array for name, array in arrays.items()}, values


def recall(strategy: Strategy, arrays: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Bring a strategy to the state that is among a checkpoint's arrays; raises `ResumeError` if it is another's."""
    own = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    strategy.load_state(own, values)
