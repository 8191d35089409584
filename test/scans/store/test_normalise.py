"""Normalisation against oracles from outside: the standard library's quantiles, torch's and NumPy's moments."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ImportScanError
from computation.scans.store import normalise


def test_quantiles_are_those_of_the_non_zero_voxels(tools):
    image, _ = tools.head()
    cuts = statistics.quantiles(image[image > 0].tolist(), n=50, method="inclusive")
    assert normalise.constants(image, "quantile") == pytest.approx((cuts[0], cuts[-1]), abs=1e-9)


def test_quantile_agrees_with_torch(tools):
    image = tools.head()[0].astype(np.float32)
    head = torch.from_numpy(image[image > 0])
    wanted = torch.quantile(head, torch.tensor([0.02, 0.98])).tolist()
    assert normalise.constants(image, "quantile") == pytest.approx(wanted, rel=1e-6)


def test_min_max_and_z_score_and_none(tools):
    image, _ = tools.head()
    inside = image[image > 0].astype(float)
    assert normalise.constants(image, "min-max") == (inside.min(), inside.max())
    low, high = normalise.constants(image, "z-score")
    assert (low, high - low) == pytest.approx((statistics.fmean(inside), statistics.pstdev(inside)))
    assert normalise.constants(image, "none") == (0, 1)


@pytest.mark.parametrize("scheme", normalise.SCHEMES)
def test_what_is_applied_is_the_written_formula(tools, scheme):
    stored, slope = tools.head()[0], 0.25
    low, high = (value * (1 if scheme == "none" else slope) for value in normalise.constants(stored, scheme))
    wanted = (stored * slope - low) / (high - low)
    if scheme in ("quantile", "min-max"):
        wanted = np.clip(wanted, 0, 1)
    wanted[stored == 0] = 0
    found = normalise.apply(stored, slope, low, high, scheme)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.floats(-500, 500), st.floats(1e-3, 1e3))
def test_background_stays_zero_and_the_rest_in_range_even_with_negative_constants(low, width):
    stored = np.array([[[0, 3, -900, 900]]], np.int16)
    found = normalise.apply(stored, 1.0, low, low + width, "quantile")
    assert found[0, 0, 0] == 0
    assert found.min() >= 0 and found.max() <= 1


def test_z_score_leaves_the_head_with_mean_zero_and_deviation_one(tools):
    image, _ = tools.head()
    found = normalise.apply(image, 1.0, *normalise.constants(image, "z-score"), "z-score")[image > 0]
    assert (found.mean(), found.std()) == pytest.approx((0, 1), abs=1e-4)


def test_more_than_two_to_the_24_voxels():
    """torch.quantile refuses these; ours must not."""
    image = np.ones((257, 257, 256), np.uint8)
    image[:128] = 3
    assert normalise.constants(image, "quantile") == (1, 3)


@pytest.mark.parametrize("image", [np.zeros((3, 3, 3)), np.full((3, 3, 3), 7.0)])
def test_an_empty_or_constant_image_is_refused(image):
    with pytest.raises(ImportScanError, match="empty or constant inside the head"):
        normalise.constants(image, "quantile")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ImportScanError, match="normalisation 'max' is unknown; choose one of quantile"):
        normalise.constants(np.ones((2, 2, 2)), "max")
