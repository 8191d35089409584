"""How long training took, without what happens beside it; and a line now and then about how far it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Seconds between two progress lines.
_EVERY = 15.0


class Spent(NamedTuple):
    """Time, less what was held."""

    seconds: float  # on the wall: depends on what else the machine does
    cpu_seconds: float  # of the processors, over all threads and finished child processes: depends less on it


def _now() -> Spent:
    times = os.times()
    return Spent(time.perf_counter(), sum(times[:4]))


def _less(one: Spent, other: Spent) -> Spent:
    return Spent(one.seconds - other.seconds, one.cpu_seconds - other.cpu_seconds)


class Watch:
    """A stopwatch that can be held.

    Parameters
    ----------
    name : str
        What is being timed; begins each progress line.
    by_processor : bool
        Whether `seconds` are the processors' and not those on the wall.
    """

    def __init__(self, name: str, by_processor: bool = False) -> None:
        self.name, self._by_processor = name, by_processor
        self.start()

    def start(self) -> None:
        """Begin again at zero."""
        # Holding moves the beginning on.
        self._began = _now()
        self._said = self._began.seconds

    @property
    def spent(self) -> Spent:
        """What was spent since the start, less what was held."""
        return _less(_now(), self._began)

    @property
    def seconds(self) -> float:
        """Seconds since the start, less those held, on the clock that was chosen."""
        return self.spent.cpu_seconds if self._by_processor else self.spent.seconds

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do not count what happens in the block."""
        before = self.spent
        try:
            yield
        finally:
            self._began = _less(_now(), before)

    def tell(self, share: float, what: str) -> None:
        """Print a line with the time that is left, if the last one was a while ago."""
        now = time.perf_counter()
        if now - self._said < _EVERY or share <= 0:
            return
        self._said = now
        left = self.seconds * (1 - share) / share
        print(f"  {self.name}: {what}, {100 * share:.0f} %, {self.seconds:.0f} s, {left:.0f} s left", flush=True)
