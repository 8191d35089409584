"""`coinstac-meshnet disclose`: every field and file that left a site or the centre, how often and how large."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from computation import terminal
from computation.coinstac.claim import SHELF
from computation.coinstac.leaving import EVENT
from computation.commands import outputs
from computation.errors import MeshNetError
from computation.terminal import shown
from computation.tracking import Entry, read
from computation.wire.disclosed import meaning
from computation.wire.payload import PREFIX

__all__ = ["Departed", "departed", "journals", "run"]

_JOURNAL, _ERRORS = "journal.jsonl", "error.log"
#: How far below the folder that is named a journal is looked for; a simulated run has them three below.
_DEEPEST = 5
_COLUMNS = ("node", "message", "what", "times", "bytes", "largest", "tells")
_UNKNOWN = "NOT KNOWN to this version: ask whoever built the image that ran"


@dataclass(frozen=True)
class Departed:
    """One field of one kind of message, or one file beside it.

    Attributes
    ----------
    message, name : str
        Which.
    times : int
        How often it left.
    bytes, largest : int
        Of all times, and of the largest.
    """

    message: str
    name: str
    times: int = 0
    bytes: int = 0
    largest: int = 0

    def and_again(self, size: int) -> Departed:
        """Return it with one more time."""
        return Departed(self.message, self.name, self.times + 1, self.bytes + size, max(self.largest, size))


def run(options: argparse.Namespace) -> None:
    """Carry out `disclose`; see there."""
    console, rows = terminal.console(), []
    for path in journals(options.folder):
        entries, name = _read(path), _name(options.folder, path)
        found = departed(entries)
        for line in _remarks(path, entries, found):
            console.print(shown(line), soft_wrap=True, highlight=False)
        for message, rest in groupby(found, key=lambda one: one.message):
            console.print(_table(f"left {name}: {message}", rest))
        rows += [(name, *_cells(one)) for one in found]
    if options.csv is not None:
        outputs.write_table(options.csv, _COLUMNS, rows)


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        return read(path)
    except OSError as error:
        raise MeshNetError("a journal cannot be read; ask whoever ran the node", str(error)) from error


def journals(folder: Path) -> list[Path]:
    """Return the journals of the nodes of a run, sorted; those of earlier runs in the same folder are left out.

    Raises
    ------
    MeshNetError
        If there is none.
    """
    found = sorted(_found(folder))
    if not found:
        text = "there is no journal.jsonl in that folder; name a run's folder, or one node's output folder"
        raise MeshNetError(text, str(folder))
    return found


def _found(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        deep = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if name != SHELF and deep < _DEEPEST)
        if _JOURNAL in files and Path(place, _JOURNAL).is_file():  # and no pipe, which would be waited for
            yield Path(place, _JOURNAL)


def _name(folder: Path, journal: Path) -> str:
    parts = journal.parent.relative_to(folder).parts
    known = [part for part in parts if part not in ("output", "simulatorRun")]
    return "/".join(known or parts) or "this node"


def departed(entries: Iterable[Entry]) -> list[Departed]:
    """Sum up what a node's journal says has left it; what was sent again after a restart counts again.

    Lines that no journal of ours has are left out.
    """
    found: dict[tuple[str, str], Departed] = {}
    for entry in entries:
        if entry.get("event") != EVENT:
            continue
        message = str(entry.get("message", ""))
        for name, size in (*_sizes(entry.get("fields")), *_sizes(entry.get("files"))):
            found[message, name] = found.get((message, name), Departed(message, name)).and_again(size)
    kinds = list(dict.fromkeys(message for message, _ in found))
    # What a message first held in a later round stands with its other fields, and files come after them.
    return sorted(found.values(), key=lambda one: (kinds.index(one.message), one.name.startswith(PREFIX)))


def _sizes(value: Any) -> list[tuple[str, int]]:
    items = value.items() if isinstance(value, Mapping) else ()
    return [(str(name), size) for name, size in items if type(size) is int and size >= 0]


def _remarks(path: Path, entries: Iterable[Entry], found: list[Departed]) -> Iterator[str]:
    """Say what the table cannot show."""
    events = [entry.get("event") for entry in entries]
    if not found:
        yield f"{path}: nothing is noted as sent: the run never began, was among peers, or noted none"
    if damaged := events.count("unreadable-line") + events.count("journal-mended"):
        yield f"{path}: {damaged} lines are damaged; what they told is missing below"
    if any(entry.get("event") == "wandb" and entry.get("mode") == "online" for entry in entries):
        yield f"{path}: every round's numbers went to Weights & Biases as well, as this site's member set it"
    if (path.parent / _ERRORS).exists():
        yield f"{path}: it failed at least once; one sentence of each failure in {_ERRORS} left, and nothing else of it"


def _table(title: str, found: Iterable[Departed]) -> Table:
    view = Table("field or file", "times", "bytes", "largest", "what it tells", title=shown(title))
    for one in found:
        _, *cells = _cells(one)
        view.add_row(*map(shown, cells))
    return view


def _cells(one: Departed) -> tuple[str, ...]:
    told = meaning(one.message, one.name) or _UNKNOWN
    return one.message, one.name, f"{one.times}", f"{one.bytes}", f"{one.largest}", told
