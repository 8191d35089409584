"""How long training took, without what happens beside it; and a line now and then about how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds between two progress lines.
_EVERY = 15.0


class Watch:
    """A stopwatch that can be held.

    Parameters
    ----------
    name : str
        What is being timed; begins each progress line.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._began = self._said = time.perf_counter()
        self._held = 0.0

    def start(self) -> None:
        """Begin again at zero."""
        self._began = self._said = time.perf_counter()
        self._held = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start, less those held."""
        return time.perf_counter() - self._began - self._held

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do not count what happens in the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._held += time.perf_counter() - began

    def tell(self, share: float, what: str) -> None:
        """Print a line with the time that is left, if the last one was a while ago."""
        now = time.perf_counter()
        if now - self._said < _EVERY or share <= 0:
            return
        self._said = now
        left = self.seconds * (1 - share) / share
        print(f"  {self.name}: {what}, {100 * share:.0f} %, {self.seconds:.0f} s, {left:.0f} s left", flush=True)
