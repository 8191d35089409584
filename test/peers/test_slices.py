"""Slices as bytes, and a module that learns from them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from computation.errors import PayloadError
from peers.slices import Kind, SliceLearner, decode, encode

KIND = Kind((3, 2), 4)


def _made(samples=5, seed=0):
    chance = np.random.default_rng(seed)
    return chance.normal(size=(samples, 3, 2)).astype(np.float32), chance.integers(0, 4, samples)


@given(samples=st.integers(1, 20), seed=st.integers(0, 99), whole=st.booleans())
def test_what_is_written_is_read(samples, seed, whole):
    inputs, targets = _made(samples, seed)
    inputs = (inputs * 50).clip(0, 255).astype(np.uint8) if whole else inputs
    found, classes = decode(encode(inputs, targets), KIND)
    assert np.array_equal(found, inputs / np.float32(255) if whole else inputs)
    assert np.array_equal(classes, targets)


@settings(max_examples=200)
@given(data=st.data())
def test_whatever_is_altered_is_a_slice_or_one_error(data):
    blob = bytearray(encode(*_made()))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for content in (bytes(blob), bytes(blob[:cut]), bytes(blob) + b"x"):
        try:
            inputs, targets = decode(content, KIND)
        except PayloadError:
            continue
        assert np.isfinite(inputs).all()
        assert inputs.shape[1:] == (3, 2)
        assert targets.max() < 4


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "bytes; wanted"),
        (encode(np.zeros((5, 3), np.float32), np.zeros(5)), "another format"),
        (encode(np.zeros((5, 2, 3), np.float32), np.zeros(5)), "samples of"),
        (encode(np.full((5, 3, 2), np.nan, np.float32), np.zeros(5)), "NaN"),
        (encode(np.zeros((5, 3, 2), np.float32), np.full(5, 4)), "class above 3"),
        (encode(np.zeros((5, 3, 2), np.float32), np.zeros(5))[:-1], "bytes; wanted"),
    ],
)
def test_what_is_no_slice_of_the_kind_is_refused(content, fault):
    with pytest.raises(PayloadError, match=fault):
        decode(content, KIND)


def test_a_slice_of_too_many_samples_is_refused_before_it_is_read():
    with pytest.raises(PayloadError, match="1 to 3"):
        decode(encode(*_made(5)), Kind((3, 2), 4, samples=3))


def test_numbers_of_another_type_make_no_slice():
    with pytest.raises(PayloadError, match="float32 or uint8"):
        encode(np.zeros((2, 3, 2)), np.zeros(2))


def _learner(own=(), seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    inputs, targets = decode(encode(*_made(50, 7)), KIND)
    return SliceLearner(
        model,
        torch.optim.SGD(model.parameters(), 0.5),
        nn.functional.cross_entropy,
        KIND,
        own,
        (torch.from_numpy(inputs), torch.from_numpy(targets)),
        size=2,
    )


def test_a_slice_is_learned_from_sample_by_sample_once():
    learner, other = _learner(), _learner()
    before = learner.vector()
    worked = learner.study(encode(*_made(5)), 1)
    assert (worked.samples, worked.batches) == (5, 3)
    assert not np.array_equal(before, learner.vector())
    other.study(encode(*_made(5)), 1)
    assert np.array_equal(other.vector(), learner.vector())
    other.study(encode(*_made(5)), 2)


def test_accuracy_is_the_share_of_classes_found():
    learner = _learner()
    inputs, targets = learner.held_out
    with torch.no_grad():
        expected = float((learner.model(inputs).argmax(1) == targets).double().mean())
    assert learner.accuracy() == expected
    learner.held_out = (inputs[:0], targets[:0])
    assert learner.accuracy() == 0.0
