"""Signs of life that a node's job process gives its main process, in a file; one that is frozen gives none."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neuroflame.places import Timing

__all__ = ["Beat"]


class Beat:
    """One process gives them, another counts the seconds without.

    Parameters
    ----------
    path : Path
        The file; its time of change is the sign.
    timing : Timing
        How often, and how long without one.
    clock : callable
        Seconds, monotonic: a machine that sleeps is no process that is frozen.
    """

    def __init__(self, path: Path, timing: Timing, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._timing, self._clock = path, timing, clock
        self._last, self._heard = 0, clock()

    def give(self) -> None:
        """Give signs for ever; for a thread of its own."""
        while True:
            with suppress(OSError):
                self._path.touch()
            time.sleep(self._timing.pulse)

    @property
    def fault(self) -> str:
        """A sentence once there was none for too long; empty before."""
        with suppress(OSError):
            if (now := self._path.stat().st_mtime_ns) != self._last:
                self._last, self._heard = now, self._clock()
        limit = self._timing.silence if self._last else self._timing.start
        silent = self._clock() - self._heard > limit
        return f"the centre's job process has given no sign of life for {limit:g} s" if silent else ""
