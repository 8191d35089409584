"""Reading ahead gives the same batches, in any order, also through faults, and stops when told."""

import threading

import pytest
import torch

from computation.errors import ScanError
from computation.scans.drawing.prefetch import Prefetcher
from computation.scans.drawing.sampling import Batch, PatchSampler
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.opening import open_store


class Counting:
    """A sampler that knows who asked for what."""

    samples, steps_per_epoch = 12, 6

    def __init__(self, bad=()):
        self.bad = bad
        self.asked = []

    def batch(self, step):
        self.asked.append((step, threading.current_thread().name))
        if step in self.bad:
            raise ScanFault(Fault.CORRUPT, "x")
        return Batch(torch.full((1, 1, 1, 1, 1), float(step)), torch.zeros(1, 1, 1, 1, dtype=torch.int64), (step,), ())


def test_the_batches_are_those_of_the_sampler(tools):
    entries = [tools.entry(f"s{index}", image=tools.head(seed=index)[0], label=tools.head()[1]) for index in range(5)]
    with open_store(tools.database(entries)) as store:
        plain = PatchSampler(store, "train", patch_size=(8, 8, 8), batch_size=2, seed=3, site="local0")
        with Prefetcher(plain, ahead=2) as ahead:
            assert (ahead.samples, ahead.steps_per_epoch) == (plain.samples, plain.steps_per_epoch)
            for step in [0, 1, 2, 3, 4, 1, 9, 8, 7, 7]:
                found, wanted = ahead.batch(step), plain.batch(step)
                assert torch.equal(found.images, wanted.images) and found.scans == wanted.scans


def test_each_step_is_made_once_in_the_thread_when_asked_in_order():
    sampler = Counting()
    with Prefetcher(sampler) as ahead:
        assert [ahead.batch(step).scans for step in range(5)] == [(0,), (1,), (2,), (3,), (4,)]
    steps = [step for step, _ in sampler.asked]
    assert steps[:5] == [0, 1, 2, 3, 4] and len(set(steps)) == len(steps)
    assert all(name.startswith("prefetch") for _, name in sampler.asked)


def test_a_fault_is_raised_at_its_own_step_and_not_before():
    with Prefetcher(Counting(bad=(1,))) as ahead:
        assert ahead.batch(0).scans == (0,)
        with pytest.raises(ScanError):
            ahead.batch(1)
        assert ahead.batch(2).scans == (2,)


def test_no_thread_is_left():
    before = set(threading.enumerate())
    ahead = Prefetcher(Counting())
    ahead.batch(0)
    ahead.close()
    assert set(threading.enumerate()) <= before
