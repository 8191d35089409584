"""Medians of a few numbers, held against the library's."""

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from computation.federation.screening import medians

NUMBERS = st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, 2.0]), max_size=12)


@given(NUMBERS)
def test_medians_are_the_librarys_and_of_nothing_0(numbers):
    ordered = sorted(numbers)
    for own, theirs in (
        (medians.mean, statistics.median),
        (medians.high, statistics.median_high),
        (medians.low, statistics.median_low),
    ):
        wanted, found = theirs(numbers) if numbers else 0.0, own(ordered)
        # Of an infinity and its opposite the mean is no number.
        assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@given(NUMBERS, st.data())
def test_without_some_the_others_are_left_in_order(numbers, data):
    own = data.draw(st.lists(st.sampled_from(range(len(numbers))), unique=True)) if numbers else []
    rest = [number for place, number in enumerate(numbers) if place not in own]
    assert medians.without(sorted(numbers), [numbers[place] for place in own]) == sorted(rest)
