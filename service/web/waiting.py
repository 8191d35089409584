"""Requests that wait for news of a run: a ring wakes them, and no thread is held meanwhile."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from service.bell import Bell, Listener

__all__ = ["Ear", "Waiting"]

#: Seconds after which a ring that got lost is made up for.
_LOOK_AGAIN = 2.0
#: Requests that may wait at once; those beyond are answered without waiting.
_MOST = 2000


class Ear:
    """One request's, which hears of one run; of one event loop, as all of this.

    Not `asyncio.wait_for` with an event: that begins a task for each wait.
    """

    def __init__(self) -> None:
        self._rung = False
        self._waiting: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake whoever waits, or else the next who does."""
        self._rung = True
        if self._waiting is not None:
            _release(self._waiting)

    def clear(self) -> None:
        """Forget what has rung: whoever looks now sees what it was for."""
        self._rung = False

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, at most so many seconds, and never so long that a lost ring matters."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        late = loop.call_later(min(seconds, _LOOK_AGAIN), _release, self._waiting)
        try:
            await self._waiting
        finally:
            late.cancel()
            self._waiting = None


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


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
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return self._count >= _MOST

    @contextmanager
    def of(self, run: str) -> Iterator[Ear]:
        """Lend what hears whenever something happens in a run."""
        self._listen()
        ear = Ear()
        self._ears[run].add(ear)
        self._count += 1
        try:
            yield ear
        finally:
            self._count -= 1
            self._ears[run].discard(ear)
            if not self._ears[run]:
                del self._ears[run]

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
            for ear in self._ears.get(run, ()):
                ear.ring()

    def close(self) -> None:
        """Hear no more."""
        if self._heard:
            loop, listener = self._heard
            self._heard = None
            if not loop.is_closed():
                loop.remove_reader(listener.fileno())
            listener.close()
