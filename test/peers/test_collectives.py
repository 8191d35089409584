"""The ring, driven in one process: the mean is that of float64, its bits are the same everywhere, its traffic known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import PeersError
from peers import collectives, counts
from peers.requests import Mean


def around(makers):
    """Drive one generator for each place in step; return what each made, the sizes it sent and those that came."""
    rings = [make() for make in makers]
    results, sent, came = [None] * len(rings), [[] for _ in rings], [[] for _ in rings]
    try:
        yields = [next(ring) for ring in rings]
    except StopIteration as end:  # of one alone
        return [end.value], sent, came
    while True:
        going = [values.copy() for values, _ in yields]
        for place, ring in enumerate(rings):
            sent[place].append(going[place].size)
            came[place].append(yields[place][1])
            try:
                yields[place] = ring.send(going[place - 1])
            except StopIteration as end:
                results[place] = end.value
        if results[-1] is not None:
            return results, sent, came


@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from(["float32", "float64"]), st.integers(0, 1 << 32))
def test_a_mean_by_the_ring(peers, size, dtype, seed):
    rng = np.random.default_rng(seed)
    vectors, weights = rng.normal(size=(peers, size)).astype(dtype), rng.uniform(0.1, 9, peers).astype(np.float32)
    makers = [
        lambda place=place: collectives.mean(Mean(vectors[place], float(weights[place])), place, peers)
        for place in range(peers)
    ]
    results, sent, came = around(makers)
    assert len({one.tobytes() for one in results}) == 1
    wanted = np.average(vectors.astype(np.float64), axis=0, weights=weights.astype(np.float64))
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(results[0], wanted, rtol=tolerance, atol=tolerance * np.abs(vectors).max())
    assert [sum(one) for one in sent] == [counts.ring_sent(size + 1, peers, place) for place in range(peers)]
    assert came == [collectives.expected(size + 1, place, peers) for place in range(peers)]


def test_of_weights_that_are_all_zero_there_is_no_mean():
    ring = collectives.mean(Mean(np.ones(3), 0.0), 0, 1)
    with pytest.raises(StopIteration) as end:
        next(ring)
    assert end.value.value is None


@given(st.integers(2, 1000), st.integers(0, 1 << 32))
def test_rounding_in_float32_is_no_lie(peers, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 1e6, peers)
    total = np.float32(0)
    for weight in weights:
        total += np.float32(weight)
    collectives.check_weights(float(total), sum(weights))
    with pytest.raises(PeersError, match="some peer brings more than it said"):
        collectives.check_weights(float(total) * 1.01, sum(weights))
