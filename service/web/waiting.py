"""Requests that wait for news of a run: an event wakes them, and no thread is held meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.bell import Bell, Listener

__all__ = ["Waiting"]

#: Seconds after which a ring that got lost is made up for.
_LOOK_AGAIN = 2.0
#: Requests that may wait at once; those beyond are answered without waiting.
_MOST = 2000


class Waiting:
    """Wakes the requests of one event loop.

    Parameters
    ----------
    bell : Bell, optional
        Heard from the first wait on; without it everybody looks again by itself.
    """

    def __init__(self, bell: Bell | None) -> None:
        self._bell = bell
        self._heard: tuple[asyncio.AbstractEventLoop, Listener] | None = None
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return self._count >= _MOST

    @contextmanager
    def of(self, run: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever something happens in a run."""
        self._listen()
        event = asyncio.Event()
        self._events[run].add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            self._events[run].discard(event)
            if not self._events[run]:
                del self._events[run]

    @staticmethod
    async def ring(event: asyncio.Event, seconds: float) -> None:
        """Wait until an event is set, at most so many seconds, and never so long that a lost ring matters."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), min(seconds, _LOOK_AGAIN))

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        if self._bell is None or (self._heard and self._heard[0] is loop):
            return
        self.close()
        listener = self._bell.listen()
        self._heard = loop, listener
        loop.add_reader(listener.fileno(), self._wake, listener)

    def _wake(self, listener: Listener) -> None:
        for run in listener.heard():
            for event in self._events.get(run, ()):
                event.set()

    def close(self) -> None:
        """Hear no more."""
        if self._heard:
            loop, listener = self._heard
            self._heard = None
            if not loop.is_closed():
                loop.remove_reader(listener.fileno())
            listener.close()
