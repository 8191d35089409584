"""Losses against closed forms and PyTorch's own cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.settings import Settings
from computation.training.loss import class_sums, criterion, cross_entropy, soft_dice


def _problem(seed, samples=1, classes=3, shape=(3, 4, 5), scale=2.0):
    stream = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(samples, classes, *shape, generator=stream, dtype=torch.float64)
    labels = torch.randint(0, classes, (samples, *shape), generator=stream)
    return scores.requires_grad_(), labels


def test_cross_entropy_of_an_undecided_network_is_log_of_the_classes():
    logs = torch.log_softmax(torch.zeros(1, 5, 2, 2, 2), 1)
    labels = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    for smoothing in (0.0, 0.3):
        assert float(cross_entropy(class_sums(logs, labels), smoothing=smoothing)) == pytest.approx(math.log(5))


def test_cross_entropy_by_hand():
    logs = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log().reshape(1, 3, 1, 1, 1)
    labels = torch.tensor([1]).reshape(1, 1, 1, 1)
    mean = -(math.log(0.7) + math.log(0.2) + math.log(0.1)) / 3
    expected = 0.9 * -math.log(0.2) + 0.1 * mean
    assert float(cross_entropy(class_sums(logs, labels), smoothing=0.1)) == pytest.approx(expected, rel=1e-12)
    # With weights, the one voxel's own weight cancels from the first term.
    weighted = -(2 * math.log(0.7) + 4 * math.log(0.2) + 6 * math.log(0.1)) / 3 / 4
    expected = 0.9 * -math.log(0.2) + 0.1 * weighted
    assert float(cross_entropy(class_sums(logs, labels), smoothing=0.1, weights=(2, 4, 6))) == pytest.approx(
        expected, rel=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.01, 0.4]),
    st.sampled_from([(), (1.0, 1.0, 1.0), (0.5, 1.0, 3.0), (0.0, 1.0, 1.0)]),
)
def test_cross_entropy_is_pytorchs(seed, smoothing, weights):
    scores, labels = _problem(seed)
    ours = cross_entropy(class_sums(scores, labels), smoothing=smoothing, weights=weights)
    weight = torch.tensor(weights, dtype=torch.float64) if weights else None
    theirs = F.cross_entropy(scores, labels, weight, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    mine, other = (torch.autograd.grad(value, scores)[0] for value in (ours.sum(), theirs))
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-14)


def test_a_sample_of_weight_zero_contributes_zero():
    scores, _ = _problem(0)
    labels = torch.zeros(1, 3, 4, 5, dtype=torch.int64)
    value = cross_entropy(class_sums(scores, labels), smoothing=0.1, weights=(0.0, 1.0, 1.0))
    assert value.item() == 0
    assert torch.autograd.grad(value.sum(), scores)[0].isfinite().all()


def test_soft_dice_of_a_perfect_and_of_a_perfectly_wrong_network():
    labels = torch.tensor([[0, 1], [2, 2]]).reshape(1, 1, 2, 2)
    sure = 100.0 * F.one_hot(labels, 3).permute(0, 4, 1, 2, 3).double()
    assert float(soft_dice(class_sums(sure, labels))) == pytest.approx(0, abs=1e-12)
    assert float(soft_dice(class_sums(sure, (labels + 1) % 3))) == pytest.approx(1, abs=1e-12)


def test_soft_dice_by_hand():
    # Two voxels of labels 0 and 1 with p(0) = 0.8 and 0.4.
    logs = torch.tensor([[0.8, 0.4], [0.2, 0.6]], dtype=torch.float64).log().reshape(1, 2, 1, 1, 2)
    labels = torch.tensor([0, 1]).reshape(1, 1, 1, 2)
    expected = 1 - (2 * 0.8 / (1.2 + 1) + 2 * 0.6 / (0.8 + 1)) / 2
    assert float(soft_dice(class_sums(logs, labels))) == pytest.approx(expected, rel=1e-12)


def test_an_absent_class_is_left_out_of_the_mean_but_still_costs():
    logs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 4)
    labels = torch.tensor([0, 0, 1, 1]).reshape(1, 1, 1, 4)
    expected = 1 - (2 * 1.0 / (2 + 2) + 2 * 0.6 / (1.2 + 2)) / 2
    assert float(soft_dice(class_sums(logs, labels))) == pytest.approx(expected, rel=1e-12)


def test_an_absent_class_of_probability_zero_leaves_no_nan():
    scores = torch.tensor([0.0, -1e4], dtype=torch.float32).reshape(1, 2, 1, 1, 1).requires_grad_()
    value = criterion(Settings(classes=("a", "b")))(scores, torch.zeros(1, 1, 1, 1, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["ce", "dice", "ce+dice"])
@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 2.0)])
def test_a_batch_is_the_mean_of_its_samples(kind, weights):
    loss = criterion(Settings(loss=kind, class_weights=weights))
    scores, labels = _problem(1, samples=4)
    parts = [loss(scores[[i]], labels[[i]]) for i in range(4)]
    assert loss(scores, labels).item() == pytest.approx(sum(part.item() for part in parts) / 4, rel=1e-12)


@pytest.mark.parametrize("kind", ["ce", "dice", "ce+dice"])
def test_gradient_is_that_of_finite_differences(kind):
    loss = criterion(Settings(loss=kind, class_weights=(0.5, 1.0, 2.0)))
    scores, labels = _problem(2, samples=2, shape=(2, 2, 2))
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (scores,))


def test_sum_of_the_two_parts():
    scores, labels = _problem(3)
    both, one, other = (criterion(Settings(loss=kind))(scores, labels).item() for kind in ("ce+dice", "ce", "dice"))
    assert both == pytest.approx(one + other, rel=1e-12)


def test_half_precision_scores_are_widened_first():
    scores, labels = _problem(4)
    narrow = scores.detach().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = criterion(Settings())(narrow, labels)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(float(criterion(Settings())(narrow.float(), labels)), rel=1e-6)
