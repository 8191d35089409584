"""Counts against NumPy, and Dice from pooled counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import ScanError
from computation.training.metrics import Counts, dice, foreground_mean, mean

VOLUMES = st.tuples(hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), st.integers(2, 6), st.integers(0, 2**32 - 1))


def _draw(shape, classes, seed):
    generator = np.random.default_rng(seed)
    return (generator.integers(0, classes, shape).astype(np.uint8) for _ in range(2))


@settings(deadline=None)
@given(VOLUMES)
def test_counts_are_numpys(case):
    shape, classes, seed = case
    predicted, truth = _draw(shape, classes, seed)
    counts = Counts.of(predicted, truth, classes)
    for label in range(classes):
        assert counts.intersection[label] == np.sum((predicted == label) & (truth == label))
        assert counts.predicted[label] == np.sum(predicted == label)
        assert counts.truth[label] == np.sum(truth == label)
    assert counts.scans == 1
    assert counts.truth.dtype == np.int64


@settings(deadline=None)
@given(VOLUMES, st.integers(0, 2**32 - 1))
def test_counts_add_up_like_one_large_scan(case, other):
    shape, classes, seed = case
    one, two = tuple(_draw(shape, classes, seed)), tuple(_draw(shape, classes, other))
    pooled = Counts.of(*one, classes) + Counts.of(*two, classes)
    whole = Counts.of(np.concatenate([one[0], two[0]]), np.concatenate([one[1], two[1]]), classes)
    assert dice(pooled) == dice(whole)
    assert pooled.scans == 2


@settings(deadline=None)
@given(VOLUMES)
def test_dice_is_the_textbook_formula(case):
    shape, classes, seed = case
    predicted, truth = _draw(shape, classes, seed)
    for label, value in enumerate(dice(Counts.of(predicted, truth, classes))):
        one, other = predicted == label, truth == label
        if not one.any() and not other.any():
            assert value is None
        else:
            assert value == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()), rel=1e-15)


def test_pooling_is_not_the_mean_of_ratios():
    good = Counts.of(np.ones(1000, int), np.ones(1000, int), 2)
    bad = Counts.of(np.zeros(10, int), np.ones(10, int), 2)
    assert dice(good + bad)[1] == pytest.approx(2000 / 2010)


def test_an_empty_class_has_no_value_and_is_left_out_of_means():
    values = dice(Counts.of([0, 0, 1], [0, 1, 1], 3))
    assert values[2] is None
    assert foreground_mean(values) == values[1]
    assert mean(values) == pytest.approx((values[0] + values[1]) / 2)
    assert foreground_mean((1.0, None, None)) is None
    assert mean(()) is None


def test_the_thesis_table_mixes_background_in():
    # Its train classes; the mean with background is the printed 0.898, the foreground mean 0.850 is not.
    classes = (0.9945, 0.8845, 0.8149)
    assert mean(classes) == pytest.approx(0.898, abs=5e-4)
    assert foreground_mean(classes) == pytest.approx(0.850, abs=5e-4)


def test_counts_do_not_overflow_or_round():
    large = Counts(*(np.array([2**53 // 2, 1], np.int64),) * 3)
    assert (large + large).truth[0] == 2**53


@pytest.mark.parametrize(("predicted", "truth"), [([0, 1], [0, 3]), ([0, 3], [0, 1]), ([0, 1], [0, -1])])
def test_labels_outside_are_refused(predicted, truth):
    with pytest.raises(ScanError, match=r"outside 0\.\.2"):
        Counts.of(predicted, truth, 3)


def test_shapes_must_agree():
    with pytest.raises(ScanError, match="shape"):
        Counts.of(np.zeros((2, 2), int), np.zeros(4, int), 2)


def test_nothing_counted():
    nothing = Counts.none(3, skipped=(7,))
    assert dice(nothing) == (None, None, None)
    total = nothing + Counts.of([0], [0], 3)
    assert (total.scans, total.skipped) == (1, (7,))
