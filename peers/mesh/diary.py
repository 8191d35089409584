"""What happens to a requester's task, line by line, and how far each of its providers says it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from computation.checks import parse_json
from computation.errors import MessageError, public_text
from computation.tracking.journal import Journal
from computation.wire.reader import Reader

__all__ = ["Diary", "duration"]

#: Cycles that a task can have: a million epochs, a million means in each.
_MOST_CYCLES = 10**12


class Diary:
    """A requester's journal.

    Parameters
    ----------
    folder : Path
        Gets `journal.jsonl`.
    say : callable
        Hears what is told.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._journal, self._say = Journal(folder / "journal.jsonl"), say
        self._cycles: dict[str, int] = {}

    def write(self, event: str, **details: Any) -> None:
        """Write down what happened."""
        self._journal.write(event, **details)

    def tell(self, text: str) -> None:
        """Say a sentence, and write it down."""
        self._journal.write("told", text=text)
        self._say(text)

    def note(self, provider: str, said: str, seconds: float) -> None:
        """Write down how far a provider is, once for each cycle; of what is no such message nothing."""
        try:
            reader = Reader(f"the progress of {provider}", parse_json(said))
            cycle, loss = reader.whole("cycle", _MOST_CYCLES), reader.number_or_null("loss")
            reader.end()
        except (ValueError, MessageError) as error:
            self.tell(f"what {provider} says of its progress cannot be: {public_text(error)}")
            return
        if cycle > self._cycles.get(provider, 0):
            self._cycles[provider] = cycle
            self._journal.write("cycle", provider=provider, cycle=cycle, loss=loss, seconds=duration(seconds))


def duration(seconds: float) -> float:
    """Return what a provider says of its time; of what is no time 0."""
    return seconds if 0 <= seconds < math.inf else 0.0
