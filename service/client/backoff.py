"""How long to wait before asking again: longer each time, never in step with others, and not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Backoff"]


@dataclass(eq=False)
class Backoff:
    """Waits between attempts at one thing.

    Attributes
    ----------
    random : random.Random
        Draws; seeded from the site's name, so that sites that lost the server together do not come back together.
    patience : float
        Seconds after which it gives up.
    first, most : float
        Seconds of the first wait at most, and of any.
    sleep, clock : callable
        Waits seconds; tells seconds that never go back.
    """

    random: random.Random
    patience: float
    first: float = 0.25
    most: float = 30.0
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _attempt: int = field(default=0, init=False)
    _began: float = field(default=0.0, init=False)

    def wait(self, least: float = 0.0) -> bool:
        """Wait, at least so long, and tell whether another attempt is to be made; at once if there is no time left.

        Full jitter: uniform up to a bound that doubles (Brooker 2015, "Exponential backoff and jitter").
        """
        now = self.clock()
        if self._attempt == 0:
            self._began = now
        left = self._began + self.patience - now
        if left <= 0:
            return False
        bound = min(self.most, self.first * 2 ** min(self._attempt, 16))
        self._attempt += 1
        self.sleep(min(max(least, self.random.uniform(0, bound)), left))
        return True

    def over(self) -> None:
        """Begin anew: it worked."""
        self._attempt = 0
