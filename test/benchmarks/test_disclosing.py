"""What the two attacks are judged by, on cases whose answer is known."""

import numpy as np
import pytest
import torch

from benchmarks.inversion import _alike, _by_tissue, _noised
from benchmarks.membership import _area, _ratios


def test_the_area_is_one_for_a_perfect_attack_and_a_half_for_none():
    assert _area(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert _area(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0
    assert _area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5


def test_the_ratio_finds_members_by_what_is_usual_for_each_person_and_no_others():
    """People differ far more than membership does, so that one threshold for all finds nobody."""
    chance = np.random.default_rng(0)
    inside = np.stack([chance.permutation(16) < 8 for _ in range(24)])
    usual = chance.normal(0, 30, 16)
    losses = usual + chance.normal(0, 1, inside.shape) - 2.5 * inside
    assert _area(-losses[inside], -losses[~inside]) < 0.6
    scores = _ratios(losses, inside)
    assert _area(scores[inside], scores[~inside]) > 0.85
    blind = _ratios(usual + chance.normal(0, 1, inside.shape), inside)
    assert _area(blind[inside], blind[~inside]) == pytest.approx(0.5, abs=0.1)


def test_a_ratio_from_too_few_others_says_nothing():
    inside = np.array([[True, False], [True, False], [True, False], [True, False]])
    assert not _ratios(np.ones((4, 2)), inside).any()


def test_a_noised_gradient_is_bounded_first():
    gradient = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert _noised(0.0)(gradient).tolist() == [0.6, 0.8] and _noised(0.0)(gradient / 10).tolist() == [0.3, 0.4]
    drawn = _noised(2.0)(torch.zeros(20_000, dtype=torch.float64))
    assert float(drawn.std()) == pytest.approx(2, rel=0.02)


def test_the_guess_without_a_gradient_is_each_tissues_mean():
    image, label = torch.tensor([[[[1.0, 3.0, 7.0]]]]), torch.tensor([[[0, 0, 1]]])
    guess = _by_tissue(image, label)
    assert guess.flatten().tolist() == [2, 2, 7]
    assert _alike(image[0], image[0], label >= 0) == pytest.approx(1)
