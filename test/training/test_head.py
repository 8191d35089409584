"""The box of the head: none of it cut off, whatever the air is made of."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.scans.store import normalise
from computation.training import head


def ball(shape=(60, 50, 56), centre=(30, 24, 27), radius=16.0, seed=0):
    """A bright ball with dark spots in nothing; grey values."""
    away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True)))
    spots = np.random.default_rng(seed).integers(300, 900, shape)
    return np.where(away <= radius, spots, 0).astype(np.int16)


def noisy(image, sigma, seed=0):
    """Add the noise of a magnitude image: Rayleigh in the air."""
    generator = np.random.default_rng(seed)
    parts = [sigma * generator.normal(size=image.shape) for _ in range(2)]
    return np.hypot(image + parts[0], parts[1]).astype(np.int16)


def normalised(image, scheme):
    return normalise.apply(image, 1.0, *normalise.constants(image, scheme), scheme)


def extent(box):
    return [(side.start, side.stop) for side in box]


@pytest.mark.parametrize("scheme", normalise.SCHEMES)
def test_a_stripped_head_has_its_own_box_and_the_margin(scheme):
    # The ball reaches from 14 to 46, 8 to 40 and 11 to 43, ends included.
    assert extent(head.box_of(normalised(ball(), scheme))) == [(10, 51), (4, 45), (7, 48)]


@pytest.mark.parametrize("scheme", normalise.SCHEMES)
@pytest.mark.parametrize("sigma", [5, 30, 60, 120])
def test_noise_in_the_air_hardly_widens_the_box(scheme, sigma):
    box = extent(head.box_of(normalised(noisy(ball(), sigma), scheme)))
    for (low, high), (first, last) in zip(box, [(14, 47), (8, 41), (11, 44)], strict=True):
        assert first - 8 <= low <= first - 2
        assert last + 2 <= high <= last + 8


def test_one_side_in_the_shadow_of_the_coil_is_not_cut_off():
    fall = np.linspace(1.0, 0.15, 60)[:, None, None]
    bright = noisy(ball() * fall, 10)
    low, high = extent(head.box_of(normalised(bright, "quantile")))[0]
    assert low <= 12
    assert high >= 49


def test_a_stripped_head_is_not_cut_off_however_dark_one_side_is():
    dark = ball() * np.geomspace(1.0, 0.01, 60)[:, None, None]
    assert extent(head.box_of(normalised(np.ceil(dark).astype(np.int16), "none"))) == [(10, 51), (4, 45), (7, 48)]


def test_noise_with_corners_of_zeros_is_still_air():
    image = noisy(np.pad(ball(), 10), 30)
    image[sum(np.indices(image.shape)) < 80] = 0
    assert (image == 0).mean() > 0.15
    for (low, high), (first, last) in zip(
        extent(head.box_of(normalised(image, "quantile"))), [(24, 57), (18, 51), (21, 54)], strict=True
    ):
        assert first - 8 <= low <= first - 2
        assert last + 2 <= high <= last + 8


def test_specks_far_away_do_not_count_but_a_part_of_the_head_does():
    image = ball(shape=(90, 50, 56))
    image[86:88, 2:4, 2:4] = 900
    assert extent(head.box_of(normalised(image, "quantile")))[0] == (10, 50)
    image[60:76, 16:32, 20:36] = 500
    low, high = extent(head.box_of(normalised(image, "quantile")))[0]
    assert low == 10
    assert 79 <= high <= 82


@settings(deadline=None, max_examples=20)
@given(pads=st.tuples(*[st.tuples(st.integers(0, 30), st.integers(0, 30))] * 3), sigma=st.sampled_from([0, 30]))
def test_nothing_around_an_image_changes_nothing(pads, sigma):
    image = normalised(noisy(ball(), sigma), "quantile")
    inner = extent(head.box_of(image))
    padded = extent(head.box_of(np.pad(image, pads)))
    for (low, high), (first, last), (pad, _), side in zip(padded, inner, pads, image.shape, strict=True):
        # Where the image itself ends, the margin goes on into what was added.
        assert low == first + pad or (first == 0 and 0 <= first + pad - low <= head.MARGIN)
        assert high == last + pad or (last == side and 0 <= high - last - pad <= head.MARGIN)


def test_without_air_the_whole_is_head():
    image = np.random.default_rng(0).random((23, 18, 20), np.float32)
    assert extent(head.box_of(image)) == [(0, 23), (0, 18), (0, 20)]


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_image_has_no_head(value):
    assert head.box_of(np.full((9, 9, 9), value, np.float32)) is None


def test_a_single_voxel_is_a_head():
    image = np.zeros((9, 20, 20), np.float32)
    image[0, 10, 19] = 1
    assert extent(head.box_of(image)) == [(0, 5), (6, 15), (15, 20)]


def test_a_grid_of_256_takes_less_than_a_second():
    image = np.pad(normalised(noisy(ball(), 30), "quantile"), [(98, 98), (103, 103), (100, 100)])
    image[image == 0] = 0.01
    began = time.process_time()
    assert head.box_of(image) is not None
    assert time.process_time() - began < 1
