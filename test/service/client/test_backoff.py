"""Waits grow, are drawn from a seed, and end."""

import random

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from service.client.backoff import Backoff


def made(seed=1, patience=100.0):
    waited, clock = [], [0.0]

    def sleep(seconds):
        waited.append(seconds)
        clock[0] += seconds

    return Backoff(random.Random(seed), patience, sleep=sleep, clock=lambda: clock[0]), waited, clock


def test_waits_grow_to_a_bound_and_end_when_patience_is_over():
    backoff, waited, clock = made()
    while backoff.wait():
        pass
    assert clock[0] == pytest.approx(100.0)
    assert all(seconds <= min(30.0, 0.25 * 2**n) for n, seconds in enumerate(waited))
    assert max(waited) > 5.0


def test_two_sites_do_not_come_back_together_and_one_always_does_the_same():
    first, again, other = made(), made(), made(seed=2)
    for one in (first, again, other):
        for _ in range(5):
            one[0].wait()
    assert first[1] == again[1] != other[1]


def test_a_service_may_ask_for_more_and_success_begins_anew():
    backoff, waited, _ = made()
    backoff.wait(10.0)
    assert waited == [10.0]
    backoff.over()
    backoff.wait()
    assert waited[1] <= 0.25
