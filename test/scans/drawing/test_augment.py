"""Augmentation changes images as named, labels with them, and nothing by chance that a seed does not decide."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from computation.errors import SettingsError
from computation.scans.drawing.augment import NONE, USUAL, Augmentation, augment

STILL = {"degrees": 0.0, "scale": 0.0, "shift": 0.0}


def head(side=24, seed=0):
    centre = np.indices((side,) * 3) - (side - 1) / 2
    radius = np.sqrt((centre**2).sum(axis=0))
    label = np.where(radius < side / 5, 1, np.where(radius < side / 3, 2, 0))
    image = np.array([0, 0.8, 0.5])[label] + np.random.default_rng(seed).uniform(0, 0.1, label.shape) * (label > 0)
    return torch.from_numpy(image.astype(np.float32))[None, None], torch.from_numpy(label.astype(np.int64))[None]


def changed(how, seed=(1,), side=24):
    image, label = head(side)
    return augment(image, label, how, [seed])


def test_nothing_changes_nothing():
    image, label = head()
    found = augment(image, label, NONE, [(1,)])
    assert found[0] is image and found[1] is label


def test_equal_seeds_give_equal_bits_and_others_do_not():
    first, again, other = (changed(USUAL, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_each_sub_volume_of_a_batch_has_its_own_seed():
    image, label = head()
    both, _ = augment(image.repeat(2, 1, 1, 1, 1), label.repeat(2, 1, 1, 1), USUAL, [(1, 2), (1, 3)])
    assert torch.equal(both[0], changed(USUAL, (1, 2))[0][0]) and torch.equal(both[1], changed(USUAL, (1, 3))[0][0])


def test_the_input_is_left_alone():
    image, label = head()
    before = image.clone(), label.clone()
    augment(image, label, USUAL, [(5,)])
    assert torch.equal(image, before[0]) and torch.equal(label, before[1])


def test_a_flip_turns_image_and_label_over_the_first_axis():
    image, label = head()
    image[0, 0, :5] *= 0.5
    found = augment(image, label, Augmentation(flip=1), [(1,)])
    assert torch.equal(found[0], image.flip(2)) and torch.equal(found[1], label.flip(1))


def test_an_affine_change_of_nothing_is_nothing():
    image, label = head()
    found = augment(image, label, Augmentation(affine=1, **STILL), [(1,)])
    torch.testing.assert_close(found[0], image, atol=1e-5, rtol=0)
    assert torch.equal(found[1], label)


def test_a_shift_moves_image_and_label_together_as_scipy_does():
    image, label = head()
    moved, classes = augment(image, label, Augmentation(affine=1, degrees=0, scale=0, shift=3), [(4,)])
    middle = [np.array(ndimage.center_of_mass(one)) for one in (label[0] > 0, classes[0] > 0, image[0, 0], moved[0, 0])]
    assert 0.3 < np.abs(middle[1] - middle[0]).max() <= 3.3
    np.testing.assert_allclose(middle[3] - middle[2], middle[1] - middle[0], atol=0.3)
    wanted = ndimage.shift(image[0, 0].numpy(), middle[3] - middle[2], order=1)
    assert np.abs(wanted - moved[0, 0].numpy()).mean() < 0.02


def test_a_rotation_keeps_volumes_and_new_labels_do_not_appear():
    image, label = head(32)
    _, classes = augment(image, label, Augmentation(affine=1, degrees=20, scale=0, shift=0), [(2,)])
    for value in (1, 2):
        assert int((classes == value).sum()) == pytest.approx(int((label == value).sum()), rel=0.06)
    assert set(classes.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("change", ["gamma", "bias", "noise", "blur"])
def test_intensity_changes_leave_labels_and_the_background(change):
    image, label = head()
    found, classes = augment(image, label, replace(NONE, **{change: 0.5}), [(3,)])
    assert torch.equal(classes, label) and (found[image == 0] == 0).all()
    assert not torch.equal(found, image) and found.dtype == torch.float32 and bool(found.isfinite().all())


def test_gamma_is_one_exponent_within_its_bounds():
    image, label = head()
    found, _ = augment(image, label, Augmentation(gamma=0.3), [(3,)])
    exponents = (found.log() / image.log())[image > 0]
    assert float(exponents.std()) < 1e-3 and np.exp(-0.3) <= float(exponents.mean()) <= np.exp(0.3)


def test_a_bias_field_is_smooth_and_bounded():
    image, label = head()
    found, _ = augment(image, label, Augmentation(bias=0.4), [(3,)])
    factor = (found / image)[image > 0]
    assert 0.6 <= float(factor.min()) < float(factor.max()) <= 1.4


def test_blur_is_a_gaussian():
    image, label = head()
    found, _ = augment(image, label, Augmentation(blur=1.0), [(8,)])
    inside = ndimage.binary_erosion(image[0, 0] > 0, iterations=3)
    best = min(
        np.abs(ndimage.gaussian_filter(image[0, 0].numpy(), sigma, truncate=3) - found[0, 0].numpy())[inside].max()
        for sigma in np.arange(0.1, 1.01, 0.02)
    )
    assert best < 0.01


def test_leaving_one_change_out_does_not_alter_the_others():
    flipped = changed(Augmentation(flip=1, gamma=0.3), (6,))[0]
    straight = changed(Augmentation(gamma=0.3), (6,))[0]
    torch.testing.assert_close(flipped.flip(2), straight)


@pytest.mark.parametrize("bad", [{"flip": 1.1}, {"affine": -0.1}, {"noise": -1}, {"gamma": float("nan")}])
def test_chances_and_strengths_have_bounds(bad):
    with pytest.raises(SettingsError, match="of an augmentation are from 0"):
        Augmentation(**bad)
