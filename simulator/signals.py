"""SIGTERM ends a run as Ctrl-C does."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Sigterm"]

T = TypeVar("T")


class Sigterm:
    """Ends a run at SIGTERM as Ctrl-C does, with every process ended, also where a shell's job ignores Ctrl-C.

    What is cancelled ends where it waits. An exception in the middle of any statement, as Python raises for a signal,
    can leave a lock of the standard library taken for ever.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work to its end; raises `KeyboardInterrupt` if a signal ended it."""
        try:
            return asyncio.run(self._watch(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    async def _watch(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work, which SIGTERM cancels from now on."""
        self._task = asyncio.current_task()
        try:
            return await work
        finally:
            self._task = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen, in the main thread; no other can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _end(self, *_: object) -> None:
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)
