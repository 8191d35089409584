"""What happens to a requester's task, line by line, and how far each of its providers says it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation.checks import parse_json
from computation.errors import MessageError, public_text
from computation.tracking.journal import Entry, Journal, read
from computation.wire.reader import Reader

if TYPE_CHECKING:
    from peers.mesh.task import Task

__all__ = ["Diary", "cycles", "duration"]

_BEGUN, _CYCLE = "task", "cycle"
#: Cycles that a task can have: a million epochs, a million means in each.
_MOST_CYCLES = 10**12


class Diary:
    """A requester's journal; one that comes back for its task goes on with it.

    Parameters
    ----------
    folder : Path
        Of its `journal.jsonl`.
    say : callable
        Hears what is told.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._journal, self._say = Journal(folder / "journal.jsonl"), say
        self._cycles: dict[str, int] = {entry["provider"]: entry["cycle"] for entry in cycles(read(self._journal.path))}

    def begin(self, task: Task) -> None:
        """Write down that a task has begun; cycles of one before it count no more."""
        self._cycles.clear()
        self.write(_BEGUN, task=task.name, workers=[name for name, _, _ in task.workers], **task.wish.as_json())

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
            self._journal.write(_CYCLE, provider=provider, cycle=cycle, loss=loss, seconds=duration(seconds))


def cycles(entries: Sequence[Entry]) -> list[Entry]:
    """Return the cycles of the latest task in a journal."""
    begun = max((place for place, entry in enumerate(entries) if entry["event"] == _BEGUN), default=0)
    return [entry for entry in entries[begun:] if entry["event"] == _CYCLE]


def duration(seconds: float) -> float:
    """Return what a provider says of its time; of what is no time 0."""
    return seconds if 0 <= seconds < math.inf else 0.0
