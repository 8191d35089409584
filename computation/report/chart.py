"""Line charts as inline SVG: no library, no script, readable on paper, on a dark screen and without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from computation.report import words
from computation.report.markup import Markup, element, join

__all__ = ["PALETTE", "Series", "chart"]

#: Lines have colours 1 to PALETTE of page.css, then start again; dashes tell apart what colour does not.
PALETTE = 6

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 440, 12, 212
#: More points than this a screen cannot show: of each group of neighbours the lowest and the highest stay.
_MOST_POINTS = 800
#: Up to so many points each is marked with a dot.
_MOST_DOTS = 40

#: Values closer than this are one: near the end of the floats' range a step between ticks would be zero.
_LEAST = 1e-300

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes
    ----------
    name : str
        Shown in the legend.
    points : tuple of (round, value)
        In order of rounds; a value of `None`, or one that is not finite, breaks the line.
    colour : int
        From 0; 0 is the colour of text, for what sums up the others.
    dashed : bool
        Whether the line is dashed.
    """

    name: str
    points: tuple[tuple[float, float | None], ...]
    colour: int = 1
    dashed: bool = False


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels. `ticks` are round numbers."""

    low: float
    high: float
    start: int
    end: int
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def chart(
    title: str,
    series: Sequence[Series],
    *,
    form: Callable[[float], str] = words.tick,
    rounds: tuple[float, float] | None = None,
    span: tuple[float, float] | None = None,
    whole: bool = False,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Return a figure with its title, legend and curves over rounds.

    Parameters
    ----------
    title : str
        What is shown.
    series : sequence of Series
        The lines; those without a single value are left out.
    form : callable
        Writes a value of the vertical axis.
    rounds : (float, float), optional
        Ends of the horizontal axis, so that figures side by side agree; by default those of the rounds.
    span : (float, float), optional
        Ends of the vertical axis; by default zero and the highest value, or the lowest where it is negative.
    whole : bool, optional
        Whether values are whole numbers.
    mark : (float, str), optional
        A round to mark with a vertical line, and what it is.
    """
    drawn = [item for item in series if _segments(item.points)]
    heading = element("figcaption", element("strong", title), _legend(drawn))
    if not drawn:
        return element("figure", heading, element("p", "No value yet.", class_="empty"))
    places, values = zip(*[point for item in drawn for part in _segments(item.points) for point in part], strict=True)
    first, last = rounds or (math.inf, -math.inf)
    across = _axis(min(first, *places), max(last, *places), _LEFT, _RIGHT, whole=True)
    low, high = span or (min(0.0, *values), max(values))
    up = _axis(low, high, _BOTTOM, _TOP, whole=whole)
    return element(
        "figure",
        heading,
        element(
            "svg",
            element("title", f"{title}: {_in_words(drawn, form)}"),
            _frame(across, up, form),
            _mark(across, mark),
            *(_line(item, across, up, form) for item in drawn),
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            role="img",
        ),
    )


def _segments(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """Return the unbroken stretches of a line."""
    parts: list[list[Point]] = [[]]
    for place, value in points:
        if value is not None and math.isfinite(value):
            parts[-1].append((place, value))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _thin(points: list[Point]) -> list[Point]:
    """Return the points that a screen can show; peaks and troughs are kept."""
    if len(points) <= _MOST_POINTS:
        return points
    width = math.ceil(len(points) / (_MOST_POINTS // 2))
    groups = [points[start : start + width] for start in range(0, len(points), width)]
    ends = {point for group in groups for point in (min(group, key=_value), max(group, key=_value))}
    return sorted({points[0], points[-1]} | ends)


def _value(point: Point) -> float:
    return point[1]


def _axis(low: float, high: float, start: int, end: int, whole: bool = False) -> _Axis:
    """Return an axis whose ticks are 1, 2 or 5 times a power of ten apart (Heckbert, Graphics Gems, 1990)."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), _LEAST):
        slack = 1.0 if whole or abs(low) <= _LEAST else abs(low) / 2
        low, high = low - slack, high + slack
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, step) if whole else step
    if not whole:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Multiplying whole numbers keeps 0.3 from becoming 0.30000000000000004.
    return _Axis(low, high, start, end, tuple(float(f"{place * step:.12g}") for place in range(first, last + 1)))


def _frame(across: _Axis, up: _Axis, form: Callable[[float], str]) -> Markup:
    rows = [
        join(
            element("line", x1=_LEFT, x2=_RIGHT, y1=up.place(tick), y2=up.place(tick), class_="grid"),
            element("text", form(tick), x=_LEFT - 8, y=up.place(tick) + 4, text_anchor="end"),
        )
        for tick in up.ticks
    ]
    columns = [
        element("text", f"{tick:g}", x=across.place(tick), y=_BOTTOM + 18, text_anchor="middle")
        for tick in across.ticks
    ]
    name = element("text", "round", x=(_LEFT + _RIGHT) / 2, y=_HEIGHT - 4, text_anchor="middle")
    return join(*rows, *columns, name)


def _mark(across: _Axis, mark: tuple[float, str] | None) -> Markup | None:
    if mark is None or not across.low <= mark[0] <= across.high:
        return None
    place = across.place(mark[0])
    late = place > (_LEFT + _RIGHT) / 2
    return join(
        element("line", x1=place, x2=place, y1=_TOP, y2=_BOTTOM, class_="mark"),
        element("text", mark[1], x=place + (-5 if late else 5), y=_BOTTOM - 6, text_anchor="end" if late else "start"),
    )


def _line(item: Series, across: _Axis, up: _Axis, form: Callable[[float], str]) -> Markup:
    parts = [_thin(part) for part in _segments(item.points)]
    paths = [
        "M" + " L".join(f"{across.place(x):g} {up.place(y):g}" for x, y in part) for part in parts if len(part) > 1
    ]
    many = sum(map(len, parts)) > _MOST_DOTS
    dots = [
        element("circle", element("title", f"round {x:g}: {form(y)}"), cx=across.place(x), cy=up.place(y), r=3)
        for part in parts
        for x, y in part
        if not many or len(part) == 1
    ]
    path = element("path", element("title", item.name), d=" ".join(paths)) if paths else None
    return element("g", path, *dots, class_=_style(item))


def _style(item: Series) -> str:
    colour = 0 if item.colour == 0 else (item.colour - 1) % PALETTE + 1
    return f"line c{colour}{' dashed' if item.dashed else ''}"


def _legend(drawn: Sequence[Series]) -> Markup | None:
    if not drawn:
        return None
    return element(
        "span", *(element("span", _swatch(item), item.name, class_="key") for item in drawn), class_="legend"
    )


def _swatch(item: Series) -> Markup:
    path = element("path", d="M1 5 L25 5")
    drawing = element("g", path, class_=_style(item))
    return element("svg", drawing, viewBox="0 0 26 10", width=26, height=10, aria_hidden="true")


def _in_words(drawn: Sequence[Series], form: Callable[[float], str]) -> str:
    """Return what a screen reader says instead of the curves: where each one starts and ends."""
    ends = [(item.name, [point for part in _segments(item.points) for point in part]) for item in drawn]
    return "; ".join(f"{name} from {form(points[0][1])} to {form(points[-1][1])}" for name, points in ends)
