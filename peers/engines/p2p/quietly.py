"""Calls of the network whose failing is the other end's affair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["quietly"]


async def quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call of the network's returns; nothing where the other end fails it, in whatever way."""
    try:
        return await function(*arguments)
    except Exception:
        return None
