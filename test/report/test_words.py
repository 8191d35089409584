"""Numbers as a reader sees them."""

import math

import pytest

from computation.report import words


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (words.number(0.29), "0.2900"),
        (words.number(1e-5, 3), "1.00e-05"),
        (words.number(1234), "1234"),
        (words.tick(0.30000000000000004), "0.3"),
        (words.score(0.81249), "0.812"),
        (words.count(1234567), "1\u202f234\u202f567"),
        (words.size(0), "0 B"),
        (words.size(999), "999 B"),
        (words.size(57_228), "57.2 kB"),
        (words.size(8e6), "8.0 MB"),
        (words.size(3.2e9), "3.2 GB"),
        (words.seconds(0), "0 s"),
        (words.seconds(0.0043), "4.3 ms"),
        (words.seconds(0.87), "0.87 s"),
        (words.seconds(31.04), "31.0 s"),
        (words.seconds(240), "4.0 min"),
        (words.seconds(9000), "2.5 h"),
    ],
)
def test_a_number_is_written_as_it_is_meant(shown, wanted):
    assert shown == wanted


@pytest.mark.parametrize("form", [words.number, words.score, words.count, words.size, words.seconds])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_a_dash(form, value):
    assert form(value) == "–"
