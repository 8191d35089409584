"""What a run has left at a site: its numbers, its page, and the segmentations of the site's own scans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.checks import is_number, is_text
from computation.errors import MeshNetError, ServiceError
from computation.model import exported
from computation.model.exported import Card
from computation.scans.making import folders
from computation.tracking import Notice, RoundNumbers, notices, read, rounds
from service.client.layout import LENT, RESULTS
from service.site.root import Root

__all__ = ["Left", "database", "is_run", "left", "own_page", "predictions"]

#: In the folder of the results: the run's page, its journal, its segmentations, and what is said of the best model.
_PAGE, _JOURNAL, _PREDICTIONS, _BEST = "index.html", "journal.jsonl", "predictions", "model/best.json"
_PREDICTION = re.compile(r"scan-(\d{4,9})\.nii\.gz")
#: Bytes of a journal that a page reads: a run of ten thousand rounds has a tenth of it.
_MOST = 128 * 2**20
#: More rounds than anybody runs.
_MANY = 10**9


@dataclass(frozen=True)
class Left:
    """What a run has left.

    Attributes
    ----------
    run : str
        As the plan calls it; empty before there is a plan.
    classes : tuple of str
        Class names, background first.
    planned : int
        Rounds that were planned.
    rounds : tuple of RoundNumbers
        Those that are over.
    notices : tuple of Notice
        What was not to be hidden.
    best : int
        Round of the best model: as it was delivered, or of those so far; -1 before any.
    page : bool
        Whether its page is there, which is written at the end.
    predictions : mapping of str
        Names of the segmentations below the root, by the scan's key.
    database : str
        Name of the database that was lent to the run; empty where that lies elsewhere.
    """

    run: str
    classes: tuple[str, ...]
    planned: int
    rounds: tuple[RoundNumbers, ...]
    notices: tuple[Notice, ...]
    best: int
    page: bool
    predictions: Mapping[int, str]
    database: str


def is_run(path: Path) -> bool:
    """Tell whether a folder is the output of `join`."""
    return folders.is_file(path / RESULTS / _JOURNAL)


def left(root: Root, name: str) -> Left:
    """Return what a run has left in a folder.

    Raises
    ------
    Unknown
        If there is no such folder, or it is no run's.
    ServiceError
        If its journal cannot be read.
    """
    path = root.file(_within(name, f"{RESULTS}/{_JOURNAL}"))
    try:
        if path.stat().st_size > _MOST:
            raise ServiceError("the run's journal is too long to be shown; its own page has what it came to")
        entries = read(path)
        done, noted = rounds(entries), notices(entries)
        if not all(map(_is_sound, done)):
            raise ValueError("a round of it holds no numbers")
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise ServiceError("the run's journal cannot be read; its own page has what it came to", str(error)) from None
    plan: Mapping[str, Any] = next((one for one in entries if one["event"] == "plan"), {})
    return Left(
        run=str(plan.get("run", "")),
        classes=_classes(plan.get("settings")),
        planned=_count(plan.get("rounds")),
        rounds=done,
        notices=noted,
        best=_best(root, name, done[-1].best if done else -1),
        page=folders.is_file(path.with_name(_PAGE)),
        predictions=predictions(root, name),
        database=database(root, name),
    )


def _best(root: Root, name: str, so_far: int) -> int:
    """Return the round of the best model; the last validation, which may choose another, comes after all rounds."""
    try:
        card = Card.parse(exported.read(root.file(_within(name, f"{RESULTS}/{_BEST}")), exported.MOST_TEXT))
    except MeshNetError:
        return so_far
    found = card.table["run"].get("best_round")
    return found if type(found) is int and 0 <= found < _MANY else so_far


def _classes(settings: Any) -> tuple[str, ...]:
    found = settings.get("classes") if isinstance(settings, Mapping) else None
    return tuple(found) if isinstance(found, list) and all(is_text(one, 200) for one in found) else ()


def _is_sound(done: RoundNumbers) -> bool:
    """Tell whether a round can be drawn: anybody may have written into the journal since."""
    tables = (done.dice, done.own_dice, done.skipped, done.missing)
    whole = (done.round, done.sites, done.validated, done.best)
    if not all(isinstance(one, Mapping) for one in tables):
        return False
    if not all(type(one) is int and abs(one) < _MANY for one in whole):
        return False
    maybe = (done.loss, done.own_loss, *done.dice.values(), *done.own_dice.values())
    return is_number(done.seconds) and all(one is None or is_number(one) for one in maybe)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < _MANY else 0


def _within(name: str, path: str) -> str:
    return f"{name}/{path}" if name else path


def own_page(root: Root, name: str) -> Path:
    """Return the page that a run has written into a folder; raises `Unknown` if there is none."""
    return root.file(_within(name, f"{RESULTS}/{_PAGE}"))


def predictions(root: Root, name: str) -> dict[int, str]:
    """Return the names of the segmentations that a run has left in a folder, by the scan's key."""
    place = _within(name, f"{RESULTS}/{_PREDICTIONS}")
    try:
        entries = folders.entries(root.subfolder(place))
    except ServiceError:
        return {}
    found = [one.name for one in entries if root.holds(one) and folders.is_file(one)]
    return {int(match[1]): f"{place}/{match[0]}" for one in found if (match := _PREDICTION.fullmatch(one))}


def database(root: Root, name: str) -> str:
    """Return the name of the database that `join` has lent to a run, by the link that it has made to it."""
    try:
        found = root.name(root.file(_within(name, LENT)))
        root.file(found)  # which may be hidden
    except ServiceError:
        return ""
    return found
