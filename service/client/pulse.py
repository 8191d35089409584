"""Tells the service now and then that a site is alive and what it is doing, while it computes."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Pulse"]


class Pulse:
    """A context manager in which a status is told, at once and then every few seconds.

    Parameters
    ----------
    tell : callable
        Told a word; may take its time and may not raise.
    seconds : float
        Between two times.
    """

    def __init__(self, tell: Callable[[str], object], seconds: float = 15.0) -> None:
        self._tell, self._seconds = tell, seconds
        self._status, self._over = "preparing", threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        # What it is just telling may hang for as long as the service does; nobody waits for that.
        self._thread.join(timeout=1.0)

    def status(self, word: str) -> None:
        """Say what the site is doing from now on."""
        self._status = word

    def _beat(self) -> None:
        while True:
            self._tell(self._status)
            if self._over.wait(self._seconds):
                return
