"""The weighted mean: laws that hold bit for bit, a closed form, and refusals that name the site."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import ContributionError
from computation.strategies import average
from computation.strategies.base import Contribution

VALUES = hnp.arrays(np.float32, st.shared(st.integers(0, 40), key="n"), elements=st.floats(-1e3, 1e3, width=32))
WEIGHTS = st.integers(1, 10_000).map(float)


def _from(site, values, weight=1.0, **changes):
    fields = {"round": 3, "model": "m", "loss": 0.5, **changes}
    return Contribution(site, fields["round"], fields["model"], weight, fields["loss"], np.asarray(values))


@given(st.lists(st.tuples(VALUES, WEIGHTS), min_size=1, max_size=4))
def test_arrival_order_never_changes_a_bit(parts):
    sites = [_from(f"site{index}", values, weight) for index, (values, weight) in enumerate(parts)]
    results = {average.combine(order).values.tobytes() for order in permutations(sites)}
    assert len(results) == 1


@given(VALUES, st.lists(WEIGHTS, min_size=1, max_size=5))
def test_the_mean_of_equals_is_itself(values, weights):
    combined = average.combine([_from(f"s{index}", values, weight) for index, weight in enumerate(weights)])
    np.testing.assert_array_equal(combined.values, values)


@given(st.lists(st.tuples(VALUES, WEIGHTS), min_size=1, max_size=4), st.sampled_from([0.25, 2.0, 1024.0]))
def test_scaling_all_weights_changes_nothing(parts, factor):
    one = average.combine([_from(f"s{i}", values, weight) for i, (values, weight) in enumerate(parts)])
    other = average.combine([_from(f"s{i}", values, weight * factor) for i, (values, weight) in enumerate(parts)])
    assert one.values.tobytes() == other.values.tobytes()


@given(st.lists(st.tuples(VALUES, WEIGHTS), min_size=1, max_size=4))
def test_equals_numpy_average_in_float64(parts):
    combined = average.combine([_from(f"s{i}", values, weight) for i, (values, weight) in enumerate(parts)])
    wanted = np.average([v.astype(np.float64) for v, _ in parts], axis=0, weights=[w for _, w in parts])
    np.testing.assert_allclose(combined.values, wanted, rtol=1e-6, atol=1e-4)


def test_blocks_do_not_show():
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(70_001).astype(np.float32) for _ in range(3)]
    mean = average.weighted_mean(vectors, [0.5, 0.25, 0.25])
    wanted = vectors[0].astype(np.float64) * 0.5 + vectors[1] * np.float64(0.25) + vectors[2] * np.float64(0.25)
    np.testing.assert_array_equal(mean, wanted.astype(np.float32))


def test_loss_is_weighted_and_sites_are_sorted():
    combined = average.combine([_from("b", [1.0], 3, loss=1.0), _from("a", [5.0], 1, loss=5.0)])
    assert combined.sites == ("a", "b")
    assert combined.loss == pytest.approx(2.0)
    assert combined.values == pytest.approx([2.0])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"weight": 0.0}, "site b has weight 0.0; wanted a positive number"),
        ({"weight": -1.0}, "site b has weight -1.0"),
        ({"weight": math.nan}, "site b has weight nan"),
        ({"round": 4}, "site b contributed to round 4; wanted round 3"),
        ({"model": "other"}, "site b computed on another model"),
        ({"loss": math.inf}, "site b reports a loss of inf"),
        ({"values": np.ones(3, np.float32)}, "site b sent 3 values of float32; wanted 2"),
        ({"values": np.ones(2)}, "site b sent 2 values of float64; wanted 2 of float32"),
        ({"values": np.array([1, np.nan], np.float32)}, "site b sent 1 values that are NaN or infinite"),
        ({"values": np.array([np.inf, -np.inf], np.float32)}, "site b sent 2 values that are NaN or infinite"),
        ({"site": "a"}, "site a contributed 2 times"),
    ],
)
def test_what_must_not_be_averaged_is_refused_and_the_site_named(bad, said):
    good = np.ones(2, np.float32)
    fields = {"site": "b", "values": good, "weight": 1.0, **bad}
    with pytest.raises(ContributionError) as caught:
        average.combine([_from("a", good), _from(**fields), _from("c", good)])
    assert said in caught.value.public


def test_opposite_infinities_of_two_sites_do_not_cancel_into_silence():
    with pytest.raises(ContributionError, match="site a"):
        average.combine([_from("a", np.array([np.inf], np.float32)), _from("b", np.array([-np.inf], np.float32))])


def test_nothing_to_combine_is_refused():
    with pytest.raises(ContributionError, match="nothing to combine"):
        average.combine([])
