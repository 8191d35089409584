"""The colours of classes where nobody chose any."""

from __future__ import annotations

__all__ = ["colour_of"]

_BACKGROUND = "#000000"
_CLASSES = ("#e8b21a", "#cd3e4e", "#3aa0d0", "#63b35c", "#9c62c9", "#d97ab0", "#8c8c3a")


def colour_of(index: int) -> str:
    """Return the colour of a class as `#rrggbb`: black for the background, and for no other."""
    return _CLASSES[(index - 1) % len(_CLASSES)] if index else _BACKGROUND
