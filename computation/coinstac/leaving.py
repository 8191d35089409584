"""Writes down what leaves a side with each of its answers: names and sizes, where every engine's messages come from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from computation.tracking import Tracker
from computation.wire import disclosed

__all__ = ["EVENT", "note"]

#: What a line of the journal that tells it is called.
EVENT = "sent"

#: Made once: this runs at every node in every round.
_encoded = json.JSONEncoder(default=str).encode


def note(tracker: Tracker, mode: str, message: Mapping[str, Any], transfer: Path) -> None:
    """Write one line into the journal: each field of a message and each file beside it, with its bytes.

    Parameters
    ----------
    tracker : Tracker
        Of the side.
    mode : str
        `local` or `remote`.
    message : mapping
        What the side answers.
    transfer : Path
        Folder from which its files travel; all of them do.

    Raises
    ------
    MeshNetError
        If the journal cannot be written: what is not written down must not leave.
    """
    fields = {name: _length(value) for name, value in disclosed.parts(message).items()}
    with os.scandir(transfer) as entries:
        files = {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}
    tracker.event(EVENT, side=mode, message=disclosed.message_of(mode, message), fields=fields, files=files)


def _length(value: Any) -> int:
    return len(repr(value) if type(value) in (int, float) else _encoded(value))
