"""Schedules against PyTorch's, and digits that no C library decides."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.settings import Settings
from computation.training.schedule import learning_rate

PEAK = 0.02


def _ours(schedule, total):
    settings = Settings(schedule=schedule, learning_rate=PEAK)
    return [learning_rate(settings, index, total) for index in range(total)]


def _theirs(make, total):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    schedule, rates = make(optimiser), []
    with warnings.catch_warnings():
        # PyTorch warns of a schedule stepped without its optimiser.
        warnings.simplefilter("ignore")
        for _ in range(total):
            rates.append(optimiser.param_groups[0]["lr"])
            if len(rates) < total:
                schedule.step()
    return rates


@pytest.mark.parametrize("total", [2, 3, 4, 7, 10, 33, 640])
def test_one_cycle_is_pytorchs(total):
    oracle = _theirs(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=PEAK, total_steps=total), total)
    # PyTorch's own cosine loses digits where the rate is smallest.
    assert _ours("one-cycle", total) == pytest.approx(oracle, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("total", [3, 10, 100])
def test_step_is_pytorchs(total):
    size = math.ceil(total / 3)
    oracle = _theirs(lambda o: torch.optim.lr_scheduler.StepLR(o, size, 0.1), total)
    assert _ours("step", total) == pytest.approx(oracle, rel=1e-11)


@pytest.mark.parametrize("total", [2, 10, 100])
def test_exponential_is_pytorchs(total):
    oracle = _theirs(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.01 ** (1 / (total - 1))), total)
    assert _ours("exponential", total) == pytest.approx(oracle, rel=1e-11)


def test_constant_is_constant():
    assert _ours("constant", 5) == [PEAK] * 5


def test_shape_of_one_cycle():
    rates = _ours("one-cycle", 100)
    assert rates[0] == pytest.approx(PEAK / 25)
    assert max(rates) == rates[29] == PEAK
    assert rates[-1] == pytest.approx(PEAK / 250_000)
    assert rates[:30] == sorted(rates[:30])
    assert rates[29:] == sorted(rates[29:], reverse=True)


@pytest.mark.parametrize("schedule", ["one-cycle", "step", "exponential", "constant"])
def test_a_run_of_one_round_has_the_peak(schedule):
    assert _ours(schedule, 1) == [PEAK]


@settings(deadline=None)
@given(
    st.sampled_from(["one-cycle", "step", "exponential", "constant"]),
    st.floats(1e-6, 10),
    st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total))),
)
def test_rates_are_positive_at_most_the_peak_and_of_twelve_digits(schedule, peak, place):
    rate = learning_rate(Settings(schedule=schedule, learning_rate=peak), *place)
    assert 0 < rate <= peak * (1 + 1e-11)
    assert float(f"{rate:.11e}") == rate


def test_decimal_context_of_the_caller_does_not_matter():
    import decimal

    expected = _ours("one-cycle", 10)
    with decimal.localcontext() as context:
        context.prec = 3
        assert _ours("one-cycle", 10) == expected
