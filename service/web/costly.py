"""Work that is made to take long, such as checking a password: in a few threads of its own, so that it takes none from
whoever is let in already."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from service.protocol import TooMany

__all__ = ["Costly"]

T = TypeVar("T")

#: What is worked on at once, what may wait for its turn, and the seconds after which others may come again.
_AT_ONCE, _WAITING, _LATER = 2, 32, 5


class Costly:
    """The threads for such work."""

    def __init__(self) -> None:
        self._places = anyio.CapacityLimiter(_AT_ONCE)
        self._taken = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what some work returns.

        Raises
        ------
        TooMany
            If too much waits already.
        """
        # Counted here and not by the limiter, which counts whoever waits only after letting others run in between.
        if self._taken >= _AT_ONCE + _WAITING:
            raise TooMany("logins", "too many log in at this moment; try again in a few seconds", wait=_LATER)
        self._taken += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._places)
        finally:
            self._taken -= 1
