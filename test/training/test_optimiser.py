"""Optimisers against PyTorch's in float64, and the same bits whatever the vector's place or length."""

import ast
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ResumeError
from computation.settings import Settings
from computation.training import optimiser

CASES = {
    "adamw": (lambda n: optimiser.AdamW(n, decay=3e-2), lambda p: torch.optim.AdamW(p, lr=1, weight_decay=3e-2)),
    "adam": (lambda n: optimiser.AdamW(n), lambda p: torch.optim.AdamW(p, lr=1, weight_decay=0)),
    "sgd": (
        lambda n: optimiser.SGD(n, momentum=0.9, decay=1e-2),
        lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, weight_decay=1e-2),
    ),
    "plain": (lambda n: optimiser.SGD(n), lambda p: torch.optim.SGD(p, lr=1)),
    "rmsprop": (
        lambda n: optimiser.RMSprop(n, decay=1e-2),
        lambda p: torch.optim.RMSprop(p, lr=1, weight_decay=1e-2),
    ),
}


def _rates(count):
    return [0.02 * (1 + step % 7) / 7 for step in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch_in_float64(name):
    make, oracle = CASES[name]
    generator = np.random.default_rng(0)
    values = generator.normal(size=200)
    parameter = torch.nn.Parameter(torch.from_numpy(values.copy()))
    theirs, ours = oracle([parameter]), make(200)
    for rate in _rates(500):
        gradient = values * 0.3 + generator.normal(size=200) * 10.0 ** generator.integers(-6, 3)
        for group in theirs.param_groups:
            group["lr"] = rate
        parameter.grad = torch.from_numpy(gradient.copy())
        theirs.step()
        values = ours.step(values, gradient, rate)
        np.testing.assert_allclose(values, parameter.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 40), shift=st.integers(0, 7))
def test_each_value_has_the_same_bits_wherever_it_lies(name, seed, cut, shift):
    """Vector units take several values at a time: neither the neighbours nor the alignment may matter."""
    make, _ = CASES[name]
    generator = np.random.default_rng(seed)
    values, gradients = generator.normal(size=41), generator.normal(size=(5, 41))
    whole, part = make(41), make(cut)
    padded = np.zeros(cut + shift)
    piece = values[:cut]
    for gradient in gradients:
        values = whole.step(values, gradient, 0.1)
        padded[shift:] = piece
        piece = part.step(padded[shift:], gradient[:cut], 0.1)
    assert np.array_equal(values[:cut], piece)


def test_known_bits():
    """Three steps of each optimiser equal Python's own floats: IEEE 754, one operation at a time."""
    for name, (make, _) in CASES.items():
        ours, value = make(1), np.array([0.75])
        for gradient in (0.3, -0.7, 1.1):
            value = ours.step(value, np.array([gradient]), 0.1)
        assert float(value[0]) == _REFERENCE[name](), name


def _adam(decay):
    value, first, second, one, two = 0.75, 0.0, 0.0, 1.0, 1.0
    for gradient in (0.3, -0.7, 1.1):
        one, two = one * 0.9, two * 0.999
        first = first * 0.9 + gradient * (1 - 0.9)
        second = second * 0.999 + gradient * gradient * (1 - 0.999)
        root = math.sqrt(second / (1 - two)) + 1e-8
        value = value * (1 - 0.1 * decay) - first / root * (0.1 / (1 - one))
    return value


def _sgd(momentum, decay):
    value, buffer = 0.75, 0.0
    for gradient in (0.3, -0.7, 1.1):
        buffer = buffer * momentum + (gradient + value * decay)
        value = value - buffer * 0.1
    return value


def _rmsprop():
    value, square = 0.75, 0.0
    for gradient in (0.3, -0.7, 1.1):
        gradient = gradient + value * 1e-2
        square = square * 0.99 + gradient * gradient * (1 - 0.99)
        value = value - gradient / (math.sqrt(square) + 1e-8) * 0.1
    return value


_REFERENCE = {
    "adamw": lambda: _adam(3e-2),
    "adam": lambda: _adam(0.0),
    "sgd": lambda: _sgd(0.9, 1e-2),
    "plain": lambda: _sgd(0.0, 0.0),
    "rmsprop": _rmsprop,
}


def test_no_operation_whose_rounding_depends_on_the_machine():
    tree = ast.parse(inspect.getsource(optimiser))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Pow | ast.MatMult)]
    used = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.value.__class__ is ast.Name
    }
    used &= set(dir(np))
    assert used <= {"array", "float64", "ones", "sqrt", "zeros", "size", "shape", "dtype", "step"}


@pytest.mark.parametrize("name", CASES)
def test_state_goes_on_with_the_same_bits(name):
    make, _ = CASES[name]
    generator = np.random.default_rng(1)
    gradients = generator.normal(size=(10, 7))
    unbroken, broken = make(7), make(7)
    one = other = generator.normal(size=7)
    for step, gradient in enumerate(gradients):
        one = unbroken.step(one, gradient, 0.1)
        if step == 5:
            kept = {name: array.copy() for name, array in broken.state().items()}
            broken = make(7)
            broken.load_state(kept)
        other = broken.step(other, gradient, 0.1)
    assert np.array_equal(one, other)


def test_state_is_a_snapshot():
    ours = optimiser.AdamW(3)
    ours.step(np.ones(3), np.ones(3), 0.1)
    state = ours.state()
    copies = {name: array.copy() for name, array in state.items()}
    ours.step(np.ones(3), np.ones(3), 0.1)
    assert all(np.array_equal(state[name], copies[name]) for name in state)


@pytest.mark.parametrize(
    "state", [{}, {"buffer": np.zeros(2)}, {"buffer": np.zeros(3, np.float32)}, {"first": np.zeros(3)}]
)
def test_a_strange_state_is_refused(state):
    with pytest.raises(ResumeError, match="optimiser"):
        optimiser.SGD(3).load_state(state)


def test_inputs_stay():
    values, gradient = np.ones(3), np.ones(3)
    values.flags.writeable = gradient.flags.writeable = False
    for make, _ in CASES.values():
        stepped = make(3).step(values, gradient, 0.1)
        assert not np.shares_memory(stepped, values)
        assert not np.array_equal(stepped, values)
    assert np.array_equal(values, np.ones(3))
    assert np.array_equal(gradient, np.ones(3))


def test_named_takes_the_settings():
    assert isinstance(optimiser.named(Settings(), 1), optimiser.AdamW)
    sgd = optimiser.named(Settings(optimizer="sgd", momentum=0.5, weight_decay=0.25), 1)
    assert (sgd.momentum, sgd.decay) == (0.5, 0.25)
    assert isinstance(optimiser.named(Settings(optimizer="rmsprop"), 1), optimiser.RMSprop)
