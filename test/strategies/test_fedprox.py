"""FedProx: local steps against closed forms, and against PyTorch with the term in the loss."""

import numpy as np
import pytest
import torch
from hills import Hill

from computation.errors import SettingsError
from computation.settings import parse
from computation.strategies import Combined, named
from computation.strategies.fedavg import FedAvg
from computation.strategies.fedprox import FedProx


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_the_term_it_is_federated_averaging_to_the_last_bit(dtype):
    start = np.random.default_rng(0).normal(size=11)
    plain, prox = (Hill(start, 0.3, rate=0.2, steps=3, dtype=dtype) for _ in range(2))
    for round in range(1, 4):
        (one, *_), (other, *_) = FedAvg().contribute(plain, round), FedProx(0.0).contribute(prox, round)
        assert one.tobytes() == other.tobytes()
        for learner, strategy in ((plain, FedAvg()), (prox, FedProx(0.0))):
            strategy.apply(learner, Combined(round, ("a",), 0.0, one))


def test_local_steps_are_pytorchs_with_the_term_in_the_loss():
    start, target, steepness = np.random.default_rng(1).normal(size=(3, 7))
    steepness = abs(steepness)
    learner = Hill(start, target, steepness, rate=0.1, steps=5)
    ours, _, _ = FedProx(0.7).contribute(learner, 1)
    values = torch.nn.Parameter(torch.from_numpy(start.copy()))
    descent = torch.optim.SGD([values], lr=0.1)
    for _ in range(5):
        descent.zero_grad()
        own = (torch.from_numpy(steepness) * (values - torch.from_numpy(target)) ** 2).sum() / 2
        (own + 0.7 / 2 * ((values - torch.from_numpy(start)) ** 2).sum()).backward()
        descent.step()
    np.testing.assert_allclose(ours, values.detach().numpy(), rtol=1e-13)
    assert np.array_equal(learner.vector(), start)


def test_many_steps_end_where_bowl_and_term_balance():
    """The lowest point of `h (x - t)^2 / 2 + mu (x - x0)^2 / 2` is `(h t + mu x0) / (h + mu)`."""
    ours, _, _ = FedProx(0.5).contribute(Hill([1.0], 4.0, 2.0, rate=0.2, steps=500), 1)
    assert ours[0] == pytest.approx((2 * 4 + 0.5 * 1) / 2.5, rel=1e-12)


@pytest.mark.parametrize("proximal", [0.0, 0.1, 10.0])
def test_a_heavier_term_keeps_a_site_nearer(proximal):
    start = np.zeros(3)
    ours, _, _ = FedProx(proximal).contribute(Hill(start, 1.0, rate=0.05, steps=20), 1)
    plain, _, _ = FedAvg().contribute(Hill(start, 1.0, rate=0.05, steps=20), 1)
    assert (abs(ours) <= abs(plain)).all()
    assert (abs(ours) < abs(plain)).all() is np.bool_(proximal > 0)


def test_statistics_have_no_term():
    start = Hill([1.0], 4.0, rate=0.1, steps=2, statistics=[3.0])
    assert FedProx(5.0).contribute(start, 1)[0][1] == 3.0


def test_the_setting_is_the_weight():
    assert named(parse({"strategy": "fedprox", "proximal": 0.3, "local_steps": 2})[0]).proximal == 0.3


def test_one_local_step_is_refused_since_nothing_would_draw_it_back():
    with pytest.raises(
        SettingsError, match="setting 'local_steps' is 1, and strategy 'fedprox' draws back from the se"
    ):
        parse({"strategy": "fedprox"})
    assert parse({"strategy": "fedprox", "proximal": 0})[0].local_steps == 1
