"""What another party said: whatever is wrong with it is put down to that party, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from computation.errors import MeshNetError

__all__ = ["read"]

T = TypeVar("T")


def read(who: str, parse: Callable[[Any], T], raw: Any) -> T:
    """Read a message.

    Parameters
    ----------
    who : str
        Sent it, such as `site a` or `the centre`.
    parse : callable
        Makes a record of plain JSON.
    raw : object
        The JSON.

    Raises
    ------
    MeshNetError
        As `parse` does, and naming who.
    """
    try:
        return parse(raw)
    except MeshNetError as error:
        raise type(error)(f"{who}: {error.public}", error.private) from error
