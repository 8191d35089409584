"""Fixed point: exact where it has to be, and never beyond its range."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import ContributionError, SettingsError
from computation.secure import fixed
from computation.secure.fixed import Scale

BOUNDS = st.floats(1e-6, 1e6)


@given(bound=BOUNDS, sites=st.integers(1, 1000))
def test_a_sum_over_all_sites_at_the_very_bound_is_what_it_should_be(bound, sites):
    scale, share = Scale(bound, sites), 1 / sites
    term = np.empty(2, np.uint64)
    fixed.whole(np.array([bound, -bound]), np.zeros(2), scale.factor * share, term)
    total = fixed.total([term] * sites)
    assert fixed.real(total, scale.factor) == pytest.approx([bound, -bound], rel=1e-12)


@given(bound=BOUNDS)
def test_the_factor_is_a_power_of_two_and_the_largest_that_fits(bound):
    factor = Scale(bound, 3).factor
    assert math.frexp(factor)[0] == 0.5
    assert factor * bound <= 2**62 < 2 * factor * bound


@given(
    values=st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20),
    share=st.floats(1e-4, 1),
)
def test_a_value_comes_back_to_within_half_a_step(values, share):
    scale = Scale(1000.0, 32)
    words = np.empty(len(values), np.uint64)
    fixed.whole(np.array(values, np.float32), np.zeros(len(values), np.float32), scale.factor * share, words)
    back = fixed.real(words, scale.factor * share)
    assert np.allclose(back, values, rtol=1e-15, atol=0.51 / (scale.factor * share))


def test_what_is_told_is_the_distance_from_the_origin():
    words = np.empty(40_000, np.uint64)
    values = np.linspace(0, 1, 40_000, dtype=np.float32)
    fixed.whole(values, values - np.float32(0.5), 2.0**40, words)
    assert np.allclose(fixed.real(words, 2.0**40), 0.5)
    assert fixed.norm(values, values - 3) == pytest.approx(3 * math.sqrt(40_000))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_has_no_place_in_the_range_is_refused(value):
    with pytest.raises(ContributionError, match="not finite or larger"):
        fixed.whole(np.array([value]), np.zeros(1), 2.0**40, np.empty(1, np.uint64))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_range_that_cannot_be_is_refused(bound):
    with pytest.raises(SettingsError, match="secure_norm"):
        Scale(bound, 3)


def test_so_many_sites_that_their_rounding_would_overflow_are_refused():
    with pytest.raises(SettingsError, match="leaves the range"):
        Scale(1.0, 2**64)
    assert fixed.norm(np.array([1e300]), np.array([-1e300])) == math.inf
