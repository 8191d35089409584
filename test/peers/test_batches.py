"""Batches as a pure function of the round."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from computation.errors import PeersError
from peers.batches import Shuffled


def _things(count):
    return TensorDataset(torch.arange(count), torch.arange(count) % 3)


def _drawn(batches, rounds):
    return [inputs.tolist() for round in rounds for inputs, _ in batches(round)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 7))
def test_each_epoch_holds_each_thing_once_however_rounds_cut_it(count, size, steps):
    batches = Shuffled(_things(count), size, seed=4, name="a", steps=steps)
    epochs = 3
    rounds = range(1, epochs * batches.steps_per_epoch // (steps or batches.steps_per_epoch) + 1)
    drawn = _drawn(batches, rounds)
    for epoch in range(len(drawn) // batches.steps_per_epoch):
        part = drawn[epoch * batches.steps_per_epoch : (epoch + 1) * batches.steps_per_epoch]
        assert sorted(place for batch in part for place in batch) == list(range(count))
    assert drawn == [inputs for round in rounds for inputs in _drawn(batches, [round])]


def test_targets_stay_with_their_inputs():
    assert all(torch.equal(inputs % 3, targets) for inputs, targets in Shuffled(_things(10), 4)(2))


def test_orders_differ_between_epochs_names_and_seeds():
    things = _things(50)
    orders = [_drawn(Shuffled(things, 50, seed, name), [round]) for seed in (0, 1) for name in "ab" for round in (1, 2)]
    assert len({str(order) for order in orders}) == 8


def test_nothing_to_draw_from_yields_nothing_and_silly_numbers_are_refused():
    assert not list(Shuffled(_things(0), 4)(1))
    assert not list(Shuffled(_things(0), 4, steps=3)(2))
    with pytest.raises(PeersError, match="wanted at least 1"):
        Shuffled(_things(3), 0)
