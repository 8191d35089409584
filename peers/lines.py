"""A line about a run now and then: what the first peer says of its latest round."""

from __future__ import annotations

import time

from rich.console import Console

from computation.terminal import shown
from computation.tracking import RoundNumbers
from computation.tracking.progress import round_line

__all__ = ["Lines"]

#: Seconds between two lines.
_EVERY = 5.0


class Lines:
    """Prints the numbers of rounds, but not of each where there are many in a few seconds.

    Parameters
    ----------
    console : Console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def __call__(self, numbers: RoundNumbers) -> None:
        """Take the numbers of a round."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _EVERY
            line = round_line(numbers, 0, ("", *numbers.dice) if numbers.dice else ())
            self._console.print(shown(line), soft_wrap=True, highlight=False)
