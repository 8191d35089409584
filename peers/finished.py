"""Runs that are over, from the folders that they left, as rows and points beside those that a comparison makes.

Three kinds of folder are known by what is in them: a swarm's node has `result.json`, a mesh's requester `metrics.json`,
and a site, a peer or a centre of a run in rounds has its rounds in the journal. All have `journal.jsonl`, and their
page `index.html` comes last: where it is missing the run is not over.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from computation.checks import is_number, parse_json
from computation.errors import MessageError, PeersError
from computation.tracking import Entry, foreground, read, rounds, totals
from computation.wire.messages import MOST_ROUNDS
from computation.wire.reader import Reader
from peers.comparing import Point, Row
from peers.mesh import diary
from simulator.layout import RUN

__all__ = ["finished"]

#: Bytes of `result.json` and `metrics.json`: a confusion matrix of 1,000 classes has some millions.
_LONGEST = 1 << 24
_MOST = 1 << 60
#: What a reader of a comparison looks for, by the row's fields of which one is enough.
_WANTED = {
    "Dice or accuracy": ("valid_dice", "test_dice", "accuracy"),
    "samples": ("samples",),
    "messages": ("messages",),
    "bytes": ("bytes",),
    "time": ("seconds", "real_seconds"),
    "digest": ("digest",),
}


def finished(folders: Sequence[Path]) -> tuple[list[Row], list[Point]]:
    """Read runs that are over.

    Parameters
    ----------
    folders : sequence of Path
        Each of one node, requester, site, peer or centre.

    Returns
    -------
    rows : list of Row
        One of each, in their order; what its files do not say is None, and named in `lacks`.
    points : list of Point
        Each one's measures on the way, where it has some.

    Raises
    ------
    PeersError
        Naming a folder that is none of a run, or of one that is not over, or that is given twice.
    """
    rows, points = list[Row](), list[Point]()
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            row, found = _read(folder, name)
        except MessageError as error:
            raise PeersError(f"the finished run {name} cannot be read: {error.public}", str(folder)) from None
        except (OSError, ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            fault = "its files are none that a run leaves; name another folder"
            raise PeersError(f"the finished run {name} cannot be read: {fault}", f"{folder}: {error!r}") from None
        rows.append(row)
        points += found
    return rows, points


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or as many of them as tell it from the others; raises `PeersError`."""
    whole = [Path(os.path.realpath(folder)) for folder in folders]
    if twice := [path.name for path, times in Counter(whole).items() if times > 1]:
        raise PeersError(f"the finished run {twice[0][:60]!r} is given twice; name each folder once")
    return [_name(path, [other for other in whole if other != path]) for path in whole]


def _name(path: Path, others: Sequence[Path]) -> str:
    least = 2 if path.name == RUN else 1
    lengths = range(least, len(path.parts))
    apart = (n for n in lengths if all(path.parts[-n:] != other.parts[-n:] for other in others))
    return "/".join(path.parts[-next(apart, len(path.parts)) :])


def _read(folder: Path, name: str) -> tuple[Row, list[Point]]:
    """Return what a folder holds; raises what a caller turns into one error."""
    missing = [one for one in ("journal.jsonl", "index.html") if not (folder / one).is_file()]
    if missing:
        wanted = "the folder of a swarm's node, a mesh's task, or a run's site, peer or centre, after its end"
        raise MessageError(f"{missing[0]} is missing; wanted {wanted}")
    entries = read(folder / "journal.jsonl")
    if (folder / "result.json").is_file():
        return _swarm(name, entries, _results(folder / "result.json"))
    if (folder / "metrics.json").is_file():
        return _mesh(name, entries, _results(folder / "metrics.json"))
    return _in_rounds(name, entries)


def _results(path: Path) -> Reader:
    with path.open("rb") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise MessageError(f"{path.name} has more than {_LONGEST} bytes; wanted fewer")
    return Reader(path.name, parse_json(text))


def _swarm(name: str, entries: Sequence[Entry], results: Reader) -> tuple[Row, list[Point]]:
    """Read a node's folder: bytes are those of contents and notes that it received, and of contents that it gave."""
    turns = [entry for entry in entries if entry["event"] == "turn"]
    others = {who for turn in turns for who in turn["counted"]}
    title = f"swarm node {name}"
    row = Row(
        title,
        peers=max(len(others), 1),
        rounds=results.whole("maturity", MOST_ROUNDS),
        accuracy=_share(results, "accuracy"),
        bytes=results.whole("received", _MOST) + results.whole("sent", _MOST),
        real_seconds=_lived(entries, "listening"),
        digest=results.digest("digest"),
    )
    measured = [turn for turn in turns if is_number(turn.get("accuracy"))]
    points = [Point(title, None, int(turn["round"]), accuracy=float(turn["accuracy"])) for turn in measured]
    return _told(row), points


def _mesh(name: str, entries: Sequence[Entry], results: Reader) -> tuple[Row, list[Point]]:
    """Read a requester's folder: of a model that segments, Dice is what its owner wants to know."""
    task = _latest(entries, "task")
    cycles = [entry["cycle"] for entry in diary.cycles(entries)]
    segments = task.get("model") == "meshnet"
    row = Row(
        f"mesh task {name}",
        seed=_whole(task.get("seed")),
        peers=len(task["workers"]) if "workers" in task else None,
        rounds=max(cycles, default=None),
        test_dice=_share(results, "dice") if segments else None,
        accuracy=None if segments else _share(results, "accuracy"),
        real_seconds=results.number("seconds", 0.0),
    )
    return _told(row), []


def _in_rounds(name: str, entries: Sequence[Entry]) -> tuple[Row, list[Point]]:
    """Read a site's, peer's or centre's folder; its Dice is of the last validation."""
    done, plan = rounds(entries), _latest(entries, "plan")
    if not done or not plan:
        raise MessageError("its journal has no plan and no round; wanted those of a run")
    settings, spent = plan["settings"], totals(done)
    title = f"{settings['strategy']} {name}"
    dice = {one.validated: foreground(one.dice, settings["classes"]) for one in done if one.dice}
    row = Row(
        title,
        seed=_whole(settings["seed"]),
        peers=max(one.sites for one in done) or None,
        rounds=spent.rounds,
        samples=spent.samples,
        valid_dice=next(reversed(dice.values()), None),
        bytes=spent.sent + spent.received,
        real_seconds=round(spent.seconds, 3),
        digest=done[-1].digest,
    )
    points = [Point(title, row.seed, at, dice=value) for at, value in dice.items() if value is not None]
    return _told(row), points


def _latest(entries: Sequence[Entry], event: str) -> Entry:
    """Return the last line of a kind, or an empty one."""
    return next((entry for entry in reversed(entries) if entry["event"] == event), {})


def _share(results: Reader, name: str) -> float | None:
    """Take a number from 0 to 1, or nothing where it is not there."""
    value = results.number_or_null(name)
    return results.take(name, "a number from 0 to 1", value is None or 0 <= value <= 1, value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _lived(entries: Sequence[Entry], begin: str) -> float | None:
    """Return the seconds from each beginning to the last line before the next one, all together."""
    spans = list[list[float]]()
    for entry in entries:
        if "time" in entry:
            at = datetime.fromisoformat(entry["time"]).timestamp()
            spans += [[]] if entry["event"] == begin else []
            for span in spans[-1:]:
                span.append(at)
    return round(sum(span[-1] - span[0] for span in spans), 3) if spans else None


def _told(row: Row) -> Row:
    """Return a row that says what it lacks."""
    lacking = [what for what, names in _WANTED.items() if all(getattr(row, name) in (None, "") for name in names)]
    return replace(row, lacks=", ".join(lacking))
