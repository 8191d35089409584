"""Shares of a data set: nothing lost, nothing twice, and proportions that are a Dirichlet distribution's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import PeersError
from peers import splits

SEEDS = st.integers(0, 2**32 - 1)


def _whole(parts, count):
    together = np.concatenate(parts)
    assert together.dtype == np.int64
    np.testing.assert_array_equal(np.sort(together), np.arange(count))
    for part in parts:
        np.testing.assert_array_equal(part, np.sort(part))


@given(st.integers(0, 3000), st.integers(1, 20), SEEDS)
def test_o32_nothing_is_lost_and_sizes_differ_by_one(count, parts, seed):
    for shared in (splits.contiguous(count, parts), splits.iid(count, parts, np.random.default_rng(seed))):
        _whole(shared, count)
        sizes = [len(part) for part in shared]
        assert len(sizes) == parts
        assert max(sizes) - min(sizes) <= 1


def test_o32_2175_slices_over_8_workers():
    sizes = [len(part) for part in splits.contiguous(2175, 8)]
    assert sizes == [272] * 7 + [271]
    assert sum(sizes) == 2175  # the thesis prints seven times 271 and 272: 2169


def test_contiguous_keeps_the_order():
    np.testing.assert_array_equal(np.concatenate(splits.contiguous(10, 3)), np.arange(10))


@given(st.lists(st.integers(-3, 5), max_size=200), st.integers(1, 9), st.floats(1e-6, 1e9), SEEDS)
def test_dirichlet_loses_nothing(labels, parts, concentration, seed):
    shared = splits.dirichlet(labels, parts, concentration, np.random.default_rng(seed))
    assert len(shared) == parts
    _whole(shared, len(labels))


@pytest.mark.parametrize("concentration", [0.1, 0.5, 1.0, 10.0])
def test_dirichlet_has_the_textbook_variance(concentration):
    classes, each, parts = 1500, 200, 4
    labels = np.repeat(np.arange(classes), each)
    shared = splits.dirichlet(labels, parts, concentration, np.random.default_rng(0))
    shares = np.stack([np.bincount(labels[part], minlength=classes) for part in shared]) / each
    # A share is Beta(a, (parts - 1) a): mean 1 / parts, variance below; rounding to 1 / 200 is far smaller.
    variance = (1 / parts) * (1 - 1 / parts) / (parts * concentration + 1)
    np.testing.assert_allclose(shares.mean(1), 1 / parts, atol=4 * np.sqrt(variance / classes))
    np.testing.assert_allclose(shares.var(1), variance, rtol=0.15)


def test_a_large_concentration_makes_parts_alike_and_a_small_one_gives_a_class_to_one():
    labels = np.repeat(np.arange(10), 1000)
    alike = splits.dirichlet(labels, 5, 1e9, np.random.default_rng(1))
    assert {count for part in alike for count in np.bincount(labels[part])} == {200}
    apart = splits.dirichlet(labels, 5, 1e-6, np.random.default_rng(1))
    assert {count for part in apart for count in np.bincount(labels[part], minlength=10)} == {0, 1000}


def test_equal_seeds_give_equal_parts():
    def draw():
        generator = np.random.default_rng(4)
        return [*splits.iid(500, 3, generator), *splits.dirichlet(np.arange(500) % 7, 3, 1.0, generator)]

    for one, other in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("concentration", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_concentration_out_of_range_is_refused(concentration):
    with pytest.raises(PeersError, match=r"the concentration is .*; wanted a number above 0"):
        splits.dirichlet([0, 1], 2, concentration, np.random.default_rng(0))


def test_parts_and_labels_that_are_none_are_refused():
    generator = np.random.default_rng(0)
    for refused in (
        lambda: splits.iid(5, 0, generator),
        lambda: splits.iid(-1, 2, generator),
        lambda: splits.contiguous(5, 0),
        lambda: splits.dirichlet([0, 1], 0, 1.0, generator),
        lambda: splits.dirichlet([[0, 1]], 2, 1.0, generator),
    ):
        with pytest.raises(PeersError):
            refused()
