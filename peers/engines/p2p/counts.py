"""What a node has received, for the measures of the paper."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["Counts"]

_MOST_HOLDERS = 10_000


@dataclass
class Counts:
    """What a node has received.

    Attributes
    ----------
    received : int
        Bytes of blocks and of notes.
    again : int
        Of them, what was here already.
    sent : int
        Bytes of blocks that it gave to others.
    holders : deque of int
        How many others were known to hold a content that it asked for, of the latest ones.
    """

    received: int = 0
    again: int = 0
    sent: int = 0
    holders: deque[int] = field(default_factory=lambda: deque(maxlen=_MOST_HOLDERS))

    def took(self, size: int, known: bool) -> None:
        """Count what came."""
        self.received += size
        self.again += size if known else 0
