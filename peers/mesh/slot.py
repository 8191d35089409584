"""The one place that a provider has for a task: taken by whoever comes first, compared and set in one step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

__all__ = ["Slot"]


@dataclass(eq=False)
class Slot:
    """Holds one task of one requester; a reservation that is not used ends by itself.

    Attributes
    ----------
    clock : callable
        Seconds that never go back.
    """

    clock: Callable[[], float] = time.monotonic
    _holder: tuple[str, str] | None = None
    _until: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def take(self, task: str, owner: str, seconds: float) -> bool:
        """Reserve for a task, or go on holding for it; tell whether it is held for that one now."""
        with self._lock:
            if self._holder not in (None, (task, owner)) and self.clock() < self._until:
                return False
            if self._holder != (task, owner) or self._until < math.inf:
                self._holder, self._until = (task, owner), self.clock() + seconds
            return True

    def keep(self, task: str, owner: str) -> bool:
        """Hold without an end, if it is still reserved for this task; only the first to ask is told yes."""
        with self._lock:
            if self._holder != (task, owner) or not self.clock() < self._until < math.inf:
                return False
            self._until = math.inf
            return True

    def free(self, task: str, owner: str) -> bool:
        """Let go, if it is held for this task."""
        with self._lock:
            if self._holder != (task, owner):
                return False
            self._holder = None
            return True

    @property
    def busy(self) -> bool:
        """Whether it is held."""
        with self._lock:
            return self._holder is not None and self.clock() < self._until
