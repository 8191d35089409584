"""The six figures: loss, Dice, learning rate, sites, seconds and bytes over the rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from computation.report import words
from computation.report.chart import PALETTE, Series, chart
from computation.report.data import ReportData
from computation.report.markup import Markup, element
from computation.tracking import RoundNumbers, foreground

__all__ = ["curves"]

Value = Callable[[RoundNumbers], float | None]


def curves(data: ReportData) -> Markup:
    """Return the grid of figures."""
    done = data.rounds
    if not done:
        return element("p", "No round has been finished.", class_="empty")
    draw = partial(chart, rounds=(done[0].round, done[-1].round))
    rate = [_series("of the round's step", done, lambda item: item.learning_rate)]
    counted = [_series("sites", done, lambda item: len(item.counted))]
    figures = [
        draw("Training loss", _losses(data)),
        draw("Validation Dice", _dice(data), form=words.score, span=_dice_span(data), mark=_best(data)),
        draw("Learning rate", rate),
        draw("Sites that counted", counted, span=_site_span(done), whole=True),
        draw("Seconds per round", _seconds(done), form=words.seconds),
        draw("Bytes per round", _bytes(done), form=words.size),
    ]
    return element("div", *figures, class_="figures")


def _series(name: str, done: Sequence[RoundNumbers], value: Value, colour: int = 1, dashed: bool = False) -> Series:
    return Series(name, tuple((item.round, value(item)) for item in done), colour, dashed)


def _losses(data: ReportData) -> list[Series]:
    names = sorted({name for item in data.rounds for name in item.by_site})
    sites = [_site_loss(name, data.rounds, place) for place, name in enumerate(names[:PALETTE], start=1)]
    own = _series("this site", data.rounds, lambda item: item.own_loss, dashed=True)
    return [*sites, own, _series("all sites, pooled", data.rounds, lambda item: item.loss, colour=0)]


def _site_loss(name: str, done: Sequence[RoundNumbers], colour: int) -> Series:
    def loss(item: RoundNumbers) -> float | None:
        return item.by_site[name].loss if name in item.by_site else None

    return _series(name, done, loss, colour, dashed=True)


def _dice(data: ReportData) -> list[Series]:
    checked = [item for item in data.rounds if item.validated >= 0]
    names = data.classes[1:]
    shown = names if len(names) <= PALETTE else ()
    pooled = [_class_dice(name, checked, place) for place, name in enumerate(shown, start=1)]
    whole = [
        _curve("foreground mean", checked, lambda item: foreground(item.dice, data.classes), 0),
        _curve("this site's scans", checked, lambda item: foreground(item.own_dice, data.classes), 0, True),
    ]
    return [*pooled, *(whole if len(names) > 1 else whole[1:])]


def _class_dice(name: str, checked: Sequence[RoundNumbers], colour: int) -> Series:
    return _curve(name, checked, lambda item: item.dice.get(name), colour)


def _curve(name: str, checked: Sequence[RoundNumbers], value: Value, colour: int, dashed: bool = False) -> Series:
    """Return a line over the rounds whose models were validated, which are not those that brought the numbers."""
    return Series(name, tuple((item.validated, value(item)) for item in checked), colour, dashed)


def _dice_span(data: ReportData) -> tuple[float, float]:
    values = [value for series in _dice(data) for _, value in series.points if value is not None]
    return (0.0, 1.0) if not values or min(values) < 0.5 else (0.5, 1.0)


def _best(data: ReportData) -> tuple[float, str] | None:
    return (data.best, f"best model, round {data.best}") if data.best >= 0 else None


def _site_span(done: Sequence[RoundNumbers]) -> tuple[float, float] | None:
    return (0.0, max((item.sites for item in done), default=0) or 1.0)


def _seconds(done: Sequence[RoundNumbers]) -> list[Series]:
    return [
        _series("whole round", done, lambda item: item.seconds or None, 0),
        _series("computing here", done, lambda item: item.own_seconds or None, 1, True),
    ]


def _bytes(done: Sequence[RoundNumbers]) -> list[Series]:
    return [
        _series("received here", done, lambda item: item.received or None, 2),
        _series("sent from here", done, lambda item: item.sent or None, 1, True),
    ]
