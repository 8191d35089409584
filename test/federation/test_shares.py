"""The cap on one site's share: it holds, gives to the others in proportion, and leaves what needs no cap as it is."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.federation.shares import capped


@pytest.mark.parametrize(
    ("weights", "most", "wanted"),
    [
        ({"a": 96, "b": 3, "c": 1}, 0.8, {"a": 0.8, "b": 0.15, "c": 0.05}),
        ({"a": 2**53, "b": 2}, 0.9, {"a": 0.9, "b": 0.1}),
        ({"a": 60, "b": 30, "c": 6, "d": 4}, 0.4, {"a": 0.4, "b": 0.4, "c": 0.12, "d": 0.08}),  # one after the other
        ({"a": 3, "b": 1}, 0.3, {"a": 0.5, "b": 0.5}),  # two sites have at least half each
        ({"a": 5}, 0.1, {"a": 5}),
        ({}, 0.5, {}),
    ],
)
def test_no_site_has_more_than_the_cap(weights, most, wanted):
    assert capped(weights, most) == pytest.approx(wanted, rel=1e-12)


@given(
    weights=st.dictionaries(st.text(max_size=3), st.floats(1e-3, 1e9), min_size=1, max_size=8),
    most=st.floats(0.01, 1),
)
def test_shares_sum_to_one_keep_their_order_and_change_only_where_they_must(weights, most):
    held = capped(weights, most)
    total, limit = math.fsum(weights.values()), max(most, 1 / len(weights))
    if max(weights.values()) <= limit * total:
        assert held == weights
        return
    if held == weights:
        assert max(weights.values()) <= limit * total * (1 + 1e-8)
        return
    assert math.fsum(held.values()) == pytest.approx(1)
    assert max(held.values()) <= limit * (1 + 1e-8)
    ordered = sorted(weights, key=weights.get)
    assert all(held[low] <= held[high] * (1 + 1e-8) for low, high in pairwise(ordered))


def test_equal_sites_are_never_changed():
    for sites in range(1, 60):
        for weight in (1, 7, 1 / 3):
            weights = {f"s{n}": weight for n in range(sites)}
            assert capped(weights, 0.01) == weights
