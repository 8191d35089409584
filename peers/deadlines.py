"""Deadlines that tune themselves: what is usual of recent arrivals, and some more."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Deadline"]

#: Arrivals that are remembered, and as many as are needed before anything is called late.
_REMEMBERED, _ENOUGH = 32, 3
#: Of a normal distribution, standard deviation over median absolute deviation.
_SCALE = 1.4826


@dataclass
class Deadline:
    """After how many seconds something that comes again and again is late.

    Median of the recent ones plus `factor` times their scaled median absolute deviation, as is usual for outliers
    (Leys et al. 2013, "Detecting outliers"), and a grace on top for whatever has no history.

    Parameters
    ----------
    grace : float
        Seconds on top.
    factor : float
        Of the deviation.
    """

    grace: float
    factor: float = 6.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def note(self, seconds: float) -> None:
        """Take in how long it took this time."""
        self._recent.append(seconds)

    @property
    def seconds(self) -> float:
        """The limit; infinite as long as too little is known."""
        if len(self._recent) < _ENOUGH:
            return math.inf
        median = statistics.median(self._recent)
        deviation = _SCALE * statistics.median(abs(one - median) for one in self._recent)
        return median + self.factor * deviation + self.grace
