"""Curves must show what the numbers say."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.report.chart import Series, _axis, _thin, chart

VALUES = st.floats(min_value=-1e12, max_value=1e12) | st.none() | st.sampled_from([math.nan, math.inf])


def drawn(values, **options):
    points = tuple(enumerate(values, start=1))
    return ET.fromstring(chart("Loss", [Series("pooled", points)], **options))


def pixels(figure):
    """Return the path's points as numbers, one list for each unbroken stretch."""
    (path,) = figure.findall("./svg/g/path")
    return [[tuple(map(float, pair.split())) for pair in part.split(" L")] for part in path.get("d").split("M")[1:]]


def test_equal_steps_are_equal_distances_and_up_is_more():
    ((first, middle, last),) = pixels(drawn([0.0, 1.0, 2.0]))
    assert middle[0] - first[0] == pytest.approx(last[0] - middle[0], abs=0.2)
    assert first[1] - middle[1] == pytest.approx(middle[1] - last[1], abs=0.2)
    assert last[1] < first[1]


def test_a_value_sits_where_the_axis_says():
    figure = drawn([0.0, 0.5, 2.0])
    labels = {text.text: float(text.get("y")) - 4 for text in figure.iter("text") if text.get("text-anchor") == "end"}
    ((_, middle, _),) = pixels(figure)
    assert middle[1] == pytest.approx(labels["0.5"], abs=0.2)


def test_a_missing_value_breaks_the_line_and_a_lonely_one_is_a_dot():
    figure = drawn([1.0, 2.0, None, 3.0, math.nan, 4.0, 5.0])
    assert [len(part) for part in pixels(figure)] == [2, 2]
    assert len(figure.findall("./svg/g/circle")) == 5


@pytest.mark.parametrize("values", [[], [None], [math.nan, math.inf]])
def test_without_a_value_it_says_so(values):
    figure = drawn(values)
    assert figure.find("svg") is None
    assert figure.find("p").text == "No value yet."


@settings(deadline=None)
@given(values=st.lists(VALUES | st.sampled_from([5e-324, -1e-320, 1e-310, -3.4e38, 3.4e38]), max_size=60))
def test_every_coordinate_is_finite_and_inside_the_drawing(values):
    figure = drawn(values)
    for node in figure.iter():
        for name in ("cx", "cy", "x", "y", "x1", "x2", "y1", "y2"):
            if node.get(name) is not None:
                assert 0 <= float(node.get(name)) <= 460
        for number in re.findall(r"-?[\d.]+(?:e[-+]?\d+)?|nan|inf", node.get("d") or ""):
            assert 0 <= float(number) <= 460


@settings(deadline=None)
@given(low=st.floats(-1e9, 1e9), width=st.floats(0, 1e9), whole=st.booleans())
def test_an_axis_covers_its_values_with_few_evenly_spaced_ticks(low, width, whole):
    low, width = (round(low), round(width)) if whole else (low, width)
    axis = _axis(low, low + width, 0, 100, whole=whole)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= low + slack
    assert axis.high >= low + width - slack
    assert 1 <= len(axis.ticks) <= 8
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)
    if whole:
        assert all(tick == round(tick) for tick in axis.ticks)


@settings(deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5000))
def test_thinning_keeps_the_ends_the_lowest_and_the_highest(values):
    points = list(enumerate(values))
    kept = _thin(points)
    assert len(kept) <= 802
    assert set(kept) <= set(points)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    seen = [value for _, value in kept]
    assert (min(seen), max(seen)) == (min(values), max(values))


def test_a_legend_names_every_line_and_words_say_what_the_curve_does():
    figure = drawn([1.0, 0.25])
    assert "".join(figure.find("figcaption").itertext()) == "Losspooled"
    assert figure.find("./svg/title").text == "Loss: pooled from 1 to 0.25"


def test_a_mark_is_drawn_only_where_there_is_an_axis_for_it():
    assert drawn([1.0, 2.0, 3.0], mark=(2, "best")).find("./svg/line[@class='mark']") is not None
    assert drawn([1.0, 2.0, 3.0], mark=(9, "best")).find("./svg/line[@class='mark']") is None
