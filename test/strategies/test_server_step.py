"""Steps towards the mean model: closed forms in Python's own floats, what must be federated averaging, and states."""

import math

import numpy as np
import pytest
from hills import Hill
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import ResumeError
from computation.settings import parse
from computation.strategies import Combined, named
from computation.strategies.fedadagrad import FedAdagrad
from computation.strategies.fedadam import FedAdam
from computation.strategies.fedavg import FedAvg
from computation.strategies.fedavgm import FedAvgM
from computation.strategies.fedyogi import FedYogi
from computation.training.faults import NotFiniteError

MAKE = {
    "fedavgm": lambda: FedAvgM(0.5, 0.7),
    "fedadam": lambda: FedAdam(0.1, 0.7, 1e-3),
    "fedyogi": lambda: FedYogi(0.1, 0.7, 1e-3),
    "fedadagrad": lambda: FedAdagrad(0.1, 0.7, 1e-3),
}
MEANS = [1.3, 0.2, -0.7, -0.7, 4.0]


def _walk(strategy, start, means, dtype=np.float64, **options):
    learner = Hill([start], dtype=dtype, **options)
    for round, mean in enumerate(means, 1):
        strategy.apply(learner, Combined(round, ("a",), 0.0, np.array(np.atleast_1d(mean), dtype)))
    return learner


def _reference(name, value, means):
    """Reddi et al. 2021, algorithm 2, and Hsu et al. 2019, one float after the other."""
    moment, second = 0.0, 1e-3 * 1e-3
    for mean in means:
        delta = mean - value
        if name == "fedavgm":
            moment = 0.7 * moment + delta
            value += 0.5 * moment
            continue
        moment = 0.7 * moment + (1 - 0.7) * delta
        square = delta * delta
        if name == "fedadam":
            second = 0.99 * second + (1 - 0.99) * square
        elif name == "fedyogi":
            second -= (1 - 0.99) * square * math.copysign(1, second - square)
        else:
            second += square
        value += 0.1 * moment / (math.sqrt(second) + 1e-3)
    return value


@pytest.mark.parametrize("name", MAKE)
def test_equals_the_papers_lines_in_pythons_own_floats(name):
    learner = _walk(MAKE[name](), 0.75, MEANS)
    assert learner.vector()[0] == pytest.approx(_reference(name, 0.75, MEANS), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_no_momentum_and_a_rate_of_one_is_federated_averaging_to_the_last_bit(dtype, data):
    width = 8 * np.dtype(dtype).itemsize
    vectors = hnp.arrays(dtype, 7, elements=st.floats(-(2.0**100), 2.0**100, width=width))
    start, means = data.draw(vectors), data.draw(st.lists(vectors, min_size=1, max_size=3))
    plain, stepped = Hill(start, dtype=dtype), Hill(start, dtype=dtype)
    strategies = FedAvg(), FedAvgM(0.0, 0.0)
    for round, mean in enumerate(means, 1):
        for learner, strategy in zip((plain, stepped), strategies, strict=True):
            strategy.apply(learner, Combined(round, ("a",), 0.0, mean))
        assert plain.vector().tobytes() == stepped.vector().tobytes()


@pytest.mark.parametrize("name", MAKE)
@given(variances=st.lists(st.floats(0, 1e6), min_size=1, max_size=4))
def test_variances_are_averaged_and_never_stepped(name, variances):
    """A step with momentum would bring the second one below zero."""
    strategy, learner = MAKE[name](), Hill([0.5], statistics=[9.0])
    for round, variance in enumerate(variances, 1):
        strategy.apply(learner, Combined(round, ("a",), 0.0, np.array([0.1 * round, variance])))
        assert learner.vector()[1] == variance


@pytest.mark.parametrize("name", MAKE)
def test_nothing_to_learn_moves_nothing(name):
    assert _walk(MAKE[name](), 0.75, [0.75] * 3).vector()[0] == 0.75


@pytest.mark.parametrize("name", ["fedadam", "fedyogi", "fedadagrad"])
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6))
def test_second_moments_are_never_negative(name, means):
    strategy = MAKE[name]()
    _walk(strategy, 0.75, means)
    assert (strategy.state()[0]["second"] >= 0).all()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_has_the_same_bits_wherever_a_value_lies(name, dtype):
    generator = np.random.default_rng(0)
    start, means = generator.normal(size=41).astype(dtype), generator.normal(size=(4, 41)).astype(dtype)
    whole, part = Hill(start, dtype=dtype), Hill(start[:5], dtype=dtype)
    strategies = MAKE[name](), MAKE[name]()
    for round, mean in enumerate(means, 1):
        strategies[0].apply(whole, Combined(round, ("a",), 0.0, mean))
        strategies[1].apply(part, Combined(round, ("a",), 0.0, mean[:5]))
    assert np.array_equal(whole.vector()[:5], part.vector())


@pytest.mark.parametrize("name", MAKE)
def test_a_restored_strategy_goes_on_as_the_unbroken_one(name):
    unbroken = _walk(MAKE[name](), 0.75, MEANS)
    first, second = MAKE[name](), MAKE[name]()
    learner = _walk(first, 0.75, MEANS[:3])
    second.load_state(*first.state())
    for round, mean in enumerate(MEANS[3:], 4):
        second.apply(learner, Combined(round, ("a",), 0.0, np.array([mean])))
    assert learner.vector().tobytes() == unbroken.vector().tobytes()


@pytest.mark.parametrize("name", MAKE)
def test_no_later_step_changes_a_state_that_was_handed_out(name):
    strategy = MAKE[name]()
    learner = _walk(strategy, 0.75, MEANS[:2])
    arrays, _ = strategy.state()
    held = {key: array.copy() for key, array in arrays.items()}
    strategy.apply(learner, Combined(3, ("a",), 0.0, np.array([5.0])))
    assert all(np.array_equal(arrays[key], held[key]) for key in held)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("arrays", "values"), [({"else": np.zeros(1)}, {}), ({}, {"latest": {}}), ({"momentum": np.zeros(1, "f4")}, {})]
)
def test_another_strategys_state_is_refused(name, arrays, values):
    with pytest.raises(ResumeError, match="another strategy"):
        MAKE[name]().load_state(arrays, values)


def test_a_strategy_without_memory_refuses_one():
    with pytest.raises(ResumeError, match="another strategy"):
        FedAvg().load_state({"momentum": np.zeros(1)}, {})


def test_the_memory_of_another_model_is_refused():
    strategy = MAKE["fedadam"]()
    _walk(strategy, 0.75, MEANS)
    with pytest.raises(ResumeError, match="1 values as 'first'; wanted 2"):
        strategy.apply(Hill([1.0, 2.0]), Combined(1, ("a",), 0.0, np.zeros(2)))


def test_a_step_out_of_the_dtypes_range_is_told():
    with pytest.raises(NotFiniteError, match="lower 'server_rate'"):
        _walk(FedAvgM(10.0, 0.9), 3e38, [-3e38], np.float32)


@pytest.mark.parametrize(
    ("name", "rate"), [("fedavgm", 0.7), ("fedadam", 0.01), ("fedyogi", 0.01), ("fedadagrad", 0.01)]
)
def test_settings_make_the_strategy(name, rate):
    made = named(parse({"strategy": name, "server_momentum": 0.3})[0])
    assert (made.rate, made.momentum) == (rate, 0.3)
    assert named(parse({"strategy": name, "server_rate": 0.2})[0]).rate == 0.2
