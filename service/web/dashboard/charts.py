"""A run's figures, drawn by the report's own charts on the server, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from computation.report import words
from computation.report.chart import PALETTE, Series, chart
from computation.report.markup import Markup, element, join
from computation.report.tables import Column, table
from computation.tracking import RoundNumbers, foreground

__all__ = ["figures"]

#: Rows of a table under a figure.
_MOST_ROWS = 500


def figures(done: Sequence[RoundNumbers], classes: Sequence[str], clock: str = "the server's") -> Markup:
    """Return the figures of a run.

    Parameters
    ----------
    done : sequence of RoundNumbers
        Its rounds, in order.
    classes : sequence of str
        Class names, background first; any number of them.
    clock : str
        Whose clock has timed the rounds.
    """
    if not done:
        return element("p", "No round has been finished yet. The curves begin with the first one.", class_="empty")
    ends = (1.0, float(max(done[-1].round, 2)))
    checked = [item for item in done if item.validated >= 0]
    drawn = [
        (chart("Training loss", [_line("all sites", done, lambda item: item.loss, 0)], rounds=ends), _losses(done)),
        (
            chart(
                "Validation Dice", _dice(checked, classes), form=words.score, rounds=ends, span=(0.0, 1.0),
                mark=_best(done),
            ),
            _scores(checked, classes),
        ),
        (
            chart(
                "Sites that counted", [_line("sites", done, lambda item: len(item.counted))], rounds=ends, whole=True,
                span=(0.0, float(max(item.sites for item in done) or 1)),
            ),
            None,
        ),
        (
            chart(
                "Time per round", [_line(f"by {clock} clock", done, lambda item: item.seconds or None, 2)],
                form=words.seconds, rounds=ends,
            ),
            None,
        ),
    ]  # fmt: skip
    return element("div", *(_with_table(place, *one) for place, one in enumerate(drawn)), class_="figures")


def _with_table(place: int, figure: Markup, rows: Markup | None) -> Markup:
    if rows is None:
        return element("div", figure, class_="panel")
    numbers = element("details", element("summary", "The numbers"), rows, id=f"numbers-{place}")
    return element("div", figure, numbers, class_="panel")


def _line(
    name: str, done: Sequence[RoundNumbers], value: Callable[[RoundNumbers], float | None], colour: int = 1
) -> Series:
    return Series(name, tuple((item.round, value(item)) for item in done), colour)


def _curve(
    name: str,
    checked: Sequence[RoundNumbers],
    value: Callable[[RoundNumbers], float | None],
    colour: int,
    dashed: bool = False,
) -> Series:
    return Series(name, tuple((item.validated, value(item)) for item in checked), colour, dashed)


def _dice(checked: Sequence[RoundNumbers], classes: Sequence[str]) -> list[Series]:
    """Return a line for each class; of more classes than there are colours, the lowest and the highest."""
    names = classes[1:]
    middle = _curve("foreground mean", checked, lambda item: foreground(item.dice, classes), 0)
    if len(names) > PALETTE:
        lowest = _curve("lowest class", checked, lambda item: min(_known(item, names), default=None), 2, True)
        highest = _curve("highest class", checked, lambda item: max(_known(item, names), default=None), 3, True)
        return [lowest, highest, middle]
    lines = [_class(name, checked, place) for place, name in enumerate(names, start=1)]
    return [*lines, *([middle] if len(names) > 1 else [])]


def _class(name: str, checked: Sequence[RoundNumbers], place: int) -> Series:
    return _curve(name, checked, lambda item: item.dice.get(name), place)


def _known(item: RoundNumbers, names: Sequence[str]) -> list[float]:
    return [value for name in names if (value := item.dice.get(name)) is not None]


def _best(done: Sequence[RoundNumbers]) -> tuple[float, str] | None:
    best = done[-1].best
    return (best, f"best, round {best}") if best >= 0 else None


def _losses(done: Sequence[RoundNumbers]) -> Markup:
    rows = done[::-1]
    columns = [
        Column("round", [words.count(item.round) for item in rows]),
        Column("loss", [words.number(item.loss) for item in rows], always=True),
        Column("sites", [f"{len(item.counted)}/{item.sites}{' void' if item.void else ''}" for item in rows]),
        Column("time", [words.seconds(item.seconds or None) for item in rows]),
    ]
    return _shortened(columns, len(rows))


def _scores(checked: Sequence[RoundNumbers], classes: Sequence[str]) -> Markup | None:
    if not checked:
        return None
    rows = checked[::-1]
    columns = [
        Column("model of round", [words.count(item.validated) for item in rows]),
        *(Column(name, [words.score(item.dice.get(name)) for item in rows]) for name in classes),
        Column("foreground mean", [words.score(foreground(item.dice, classes)) for item in rows], "number strong"),
        Column("without", [words.listed([f"{site} ({lack})" for site, lack in item.missing.items()]) for item in rows]),
    ]
    return _shortened(columns, len(rows))


def _shortened(columns: Sequence[Column], rows: int) -> Markup:
    shown = [Column(one.name, one.cells[:_MOST_ROWS], one.style, one.always) for one in columns]
    left = rows - _MOST_ROWS
    note = element("p", f"And {left} older ones; metrics.csv has them all at the end.", class_="quiet")
    return join(table(shown), note if left > 0 else None)
