"""Several protocols on the same sites, seeds and samples, in virtual time: one table, CSV, figure and page.

Runs that are over, of a swarm, a mesh or anything else, can stand beside them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from computation.report import words
from computation.report.chart import Series, chart
from computation.report.markup import Markup, element, join
from computation.report.page import framed
from computation.report.tables import Column, table
from computation.settings import parse
from computation.tracking import RoundNumbers, foreground, lines, mean, read, rounds
from peers import simulating
from peers.engines.network import Network
from peers.options import Choice
from peers.plan import Order, folders

__all__ = ["Point", "Row", "compare", "page", "write"]

_NOTE = (
    "All protocols learnt from the same scans with the same seeds and settings, in virtual time: what messages and "
    "batches cost is given, and what came of it is computed. Metrics only: no image, no scan, no file name, no person."
)


_FINISHED_NOTE = (
    "The finished runs had data, seeds and an end of their own, and real time; their Dice is pooled over their sites. "
    "Each says what it came to where it ran, and which protocol is better follows from none of them."
)


@dataclass(frozen=True)
class Row:
    """What one protocol came to with one seed, or a finished run, of which None is what its files do not say.

    Attributes
    ----------
    protocol : str
        With its options; of a finished run, what it was and its folder's name.
    seed : int or None
        Of the run.
    peers, rounds, samples : int or None
        How many; samples are sub-volumes that all peers together learnt from. Of a swarm's node, those that it averaged
        with and itself, and its training cycles; of a mesh's task, its providers, and the most cycles of one.
    valid_dice, test_dice : float or None
        Pooled foreground Dice of the final model; of a finished run in rounds, at its last validation.
    messages, bytes, busiest_peer_bytes : int or None
        That travelled, and what went through the one peer or centre through which most went. Of a finished run, the
        bytes that left and reached the node whose folder it is.
    seconds : float or None
        Of virtual time.
    consensus_distance : float or None
        Root mean square distance of the peers' last models from their mean, before it became the final model.
    digest : str
        Of the final model.
    accuracy : float or None
        On what was held out, where targets are classes.
    real_seconds : float or None
        That a finished run took.
    lacks : str
        What a finished run's files do not say.
    """

    protocol: str
    seed: int | None = None
    peers: int | None = None
    rounds: int | None = None
    samples: int | None = None
    valid_dice: float | None = None
    test_dice: float | None = None
    messages: int | None = None
    bytes: int | None = None
    busiest_peer_bytes: int | None = None
    seconds: float | None = None
    consensus_distance: float | None = None
    digest: str = ""
    accuracy: float | None = None
    real_seconds: float | None = None
    lacks: str = ""


@dataclass(frozen=True)
class Point:
    """One validation: the mean over peers of each one's foreground Dice on its own scans, after a round.

    Of a finished run in rounds it is the pooled Dice, and of a swarm's node its accuracy.
    """

    protocol: str
    seed: int | None
    round: int
    samples: int | None = None
    dice: float | None = None
    accuracy: float | None = None


def compare(
    order: Order,
    choices: Sequence[Choice],
    seeds: Sequence[int],
    network: Network,
    told: Callable[[Row], object] = lambda _: None,
    beside: tuple[Sequence[Row], Sequence[Point]] = ((), ()),
) -> tuple[list[Row], list[Point]]:
    """Run each protocol with each seed; the table, figure and page are written anew after each.

    Parameters
    ----------
    order : Order
        What is to be run; each run has a folder of its own in the output folder.
    choices : sequence of Choice
        The protocols.
    seeds : sequence of int
        They take the place of the setting `seed`.
    network : Network
        The same for all.
    told : callable, optional
        Hears of each run when it is over.
    beside : rows and points, optional
        Of runs that are over already, from `peers.finished`; they come last.

    Raises
    ------
    MeshNetError
        If a run does not end well; nothing of the others is lost.
    """
    rows, points = [], []
    for seed in seeds:
        for choice in choices:
            folder = order.output / "runs" / f"{_name(choice)}-seed-{seed}"
            tasks = {name: {**task, "strategy": choice.strategy, "seed": seed} for name, task in order.tasks.items()}
            one = replace(order, tasks=tasks, choice=choice, output=folder)
            summary = simulating.simulate(one, replace(network, seed=seed))
            found = _points(one, seed)
            rows.append(_row(one, seed, summary))
            points += found
            write(order.output, [*rows, *beside[0]], [*points, *beside[1]])
            told(rows[-1])
    return rows, points


def _name(choice: Choice) -> str:
    """Return a folder's name: of a matrix's path, only what no folder's name may hold is replaced."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", str(choice))


def _row(order: Order, seed: int, summary: dict[str, Any]) -> Row:
    traffic = summary["traffic"]
    return Row(
        str(order.choice),
        seed,
        len(order.names),
        summary["rounds"],
        sum(one.samples for name in order.names for one in _journal(order, name)),
        summary["foreground_dice"],
        summary["test_foreground_dice"],
        traffic["messages"],
        traffic["bytes"],
        traffic["busiest_peer_bytes"],
        round(summary["virtual_seconds"], 3),
        summary["consensus_distance"],
        summary["model_digest"],
    )


def _journal(order: Order, name: str) -> list[RoundNumbers]:
    return list(rounds(read(folders(order, name).output / "journal.jsonl")))


def _points(order: Order, seed: int) -> list[Point]:
    """Return the validations of a run."""
    classes = parse(order.tasks[order.names[0]])[0].classes
    found: dict[int, list[float | None]] = {}
    samples: dict[int, int] = {}
    for name in order.names:
        done = 0
        for one in _journal(order, name):
            done += one.samples
            samples[one.round] = samples.get(one.round, 0) + done
            if one.own_dice and one.validated >= 0:
                found.setdefault(one.validated, []).append(foreground(one.own_dice, classes))
    dice = {round: mean(values) for round, values in sorted(found.items())}
    return [
        Point(str(order.choice), seed, round, samples.get(round, 0), value)
        for round, value in dice.items()
        if value is not None
    ]


def write(folder: Path, rows: Sequence[Row], points: Sequence[Point]) -> None:
    """Write `compare.csv`, `curve.csv` and `index.html` into a folder; raises `MeshNetError` if that fails."""
    lines.replace(folder / "compare.csv", _csv(rows, Row))
    lines.replace(folder / "curve.csv", _csv(points, Point))
    lines.replace(folder / "index.html", page(rows, points))


def _csv(records: Sequence[Any], kind: type[Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [one.name for one in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in records)
    return text.getvalue()


def page(rows: Sequence[Row], points: Sequence[Point]) -> Markup:
    """Return the comparison as one self-contained page."""
    names = list(dict.fromkeys(row.protocol for row in rows))
    header = element(
        "header",
        element("p", "Federated segmentation of brain MRI without a centre", class_="kicker"),
        element("h1", "Protocols side by side"),
        element("p", _lead(rows), class_="lead"),
    )
    figures = join(*(_figure(title, names, points, value) for title, value in _FIGURES))
    parts = [("What it cost and what it brought", _table(rows, names)), ("On the way", figures)]
    return framed("MeshNet, protocols side by side", header, parts, _note(rows))


def _is_over(row: Row) -> bool:
    """Tell whether it is of a run that nobody compared: those that were have virtual time."""
    return row.seconds is None


def _lead(rows: Sequence[Row]) -> str:
    made, over = [row for row in rows if not _is_over(row)], [row for row in rows if _is_over(row)]
    names, seeds = len({row.protocol for row in made}), len({row.seed for row in made})
    told = [f"{names} protocols, {made[0].peers} peers, {seeds} seeds each"] if made else []
    return "; ".join([*told, *([f"{len(over)} finished runs"] if over else [])]) + "."


def _note(rows: Sequence[Row]) -> str:
    made, over = any(not _is_over(row) for row in rows), any(map(_is_over, rows))
    return " ".join([*([_NOTE] if made else []), *([_FINISHED_NOTE] if over else [])])


def _table(rows: Sequence[Row], names: Sequence[str]) -> Markup:
    groups = [[row for row in rows if row.protocol == name] for name in names]

    def column(title: str, form: Callable[[Any], str], value: Callable[[Row], float | None]) -> Column:
        return Column(title, [_range([value(row) for row in group], form) for group in groups])

    return table(
        [
            Column("Protocol", list(names), "code"),
            column("Validation Dice", words.score, lambda row: row.valid_dice),
            column("Test Dice", words.score, lambda row: row.test_dice),
            column("Accuracy", words.score, lambda row: row.accuracy),
            column("Samples", words.count, lambda row: row.samples),
            column("Messages", words.count, lambda row: row.messages),
            column("Bytes", words.size, lambda row: row.bytes),
            column("Through the busiest", words.size, lambda row: row.busiest_peer_bytes),
            column("Virtual time", words.seconds, lambda row: row.seconds),
            column("Real time", words.seconds, lambda row: row.real_seconds),
            column("Consensus distance", words.tick, lambda row: row.consensus_distance),
            Column("Its files do not say", [group[0].lacks for group in groups], ""),
        ]
    )


def _range(values: Sequence[float | None], form: Callable[[Any], str]) -> str:
    """Return the least and the most over seeds, in one word where both look the same."""
    known = sorted(value for value in values if value is not None)
    ends = list(dict.fromkeys(form(value) for value in (known[0], known[-1]))) if known else ["–"]
    return " to ".join(ends)


_FIGURES: tuple[tuple[str, Callable[[Point], float | None]], ...] = (
    ("Foreground Dice on each peer's own validation scans, mean over peers and seeds", lambda point: point.dice),
    ("Accuracy on what each node holds out, by its turns", lambda point: point.accuracy),
)


def _figure(
    title: str, names: Sequence[str], points: Sequence[Point], value: Callable[[Point], float | None]
) -> Markup | None:
    """Return the figure of one measure; there is none where only another was taken."""
    if points and all(value(point) is None for point in points):
        return None
    series = []
    for place, name in enumerate(names, start=1):
        at = sorted({point.round for point in points if point.protocol == name})
        values = [(r, mean([value(p) for p in points if (p.protocol, p.round) == (name, r)])) for r in at]
        series.append(Series(name, tuple(values), place, place > 6))
    return chart(title, series, form=words.score)
