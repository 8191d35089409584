"""Graphs against their definitions, and the laws of mixing matrices, in float64."""

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from computation.errors import PeersError
from peers import topology

PEERS = st.integers(1, 17)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def graphs(draw, names=tuple(topology.GRAPHS)):
    peers = draw(PEERS)
    degree = draw(st.integers(1, max(1, peers - 1)))
    return topology.named(draw(st.sampled_from(names)), peers, degree, draw(SEEDS))


def _vectors(peers, seed=0):
    return np.random.default_rng(seed).standard_normal((peers, 3))


def _paths(graph):
    """Search breadth first, over the rounds of a period together."""
    edges = {
        peer: {to for each in range(len(graph.rounds)) for to in graph.out(peer, each)} for peer in range(graph.peers)
    }
    for start in range(graph.peers):
        seen, front = {start}, [start]
        while front:
            front = [to for peer in front for to in edges[peer] if to not in seen and not seen.add(to)]
        yield seen


# --- graphs ---


@given(graphs(), st.integers(0, 40))
def test_in_and_out_neighbours_are_two_views_of_one_graph(graph, round):
    for peer in range(graph.peers):
        assert peer not in graph.out(peer, round)
        assert list(graph.into(peer, round)) == [j for j in range(graph.peers) if peer in graph.out(j, round)]
        assert list(graph.heard(round)[peer].nonzero()[0]) == list(graph.into(peer, round))


@given(graphs())
def test_there_is_a_path_from_each_to_each(graph):
    assert all(len(seen) == graph.peers for seen in _paths(graph))


@given(PEERS)
def test_a_ring_has_two_sides_and_a_complete_graph_all(peers):
    ring, complete = topology.named("ring", peers), topology.named("complete", peers)
    for peer in range(peers):
        assert set(ring.out(peer)) == {(peer + 1) % peers, (peer - 1) % peers} - {peer}
        assert set(complete.out(peer)) == set(range(peers)) - {peer}


@given(st.integers(2, 70), st.integers(0, 50), st.data())
def test_one_peer_exponential_is_its_formula(peers, round, data):
    peer = data.draw(st.integers(0, peers - 1))
    power = round % math.ceil(math.log2(peers))
    assert topology.named("exponential", peers).out(peer, round) == ((peer + 2**power) % peers,)


@given(st.integers(2, 17), SEEDS, st.data())
def test_a_random_graph_has_its_degree_and_is_the_same_for_everybody(peers, seed, data):
    degree = data.draw(st.integers(1, peers - 1))
    graph = topology.named("random", peers, degree, seed)
    assert {len(graph.out(peer)) for peer in range(peers)} == {degree}
    assert graph == topology.named("random", peers, degree, seed)


def test_random_graphs_differ_and_are_irregular():
    assert len({topology.named("random", 9, 3, seed) for seed in range(20)}) == 20
    graph = topology.named("random", 9, 3, 0)
    assert len({len(graph.into(peer)) for peer in range(9)}) > 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("star", 4), "there is no graph 'star'; wanted one of ring, complete, exponential, random"),
        (("ring", 0), "a graph of 0 peers; wanted at least 1"),
        (("random", 4, 4), "4 peers that send to 4 others each; wanted 1 to 3 others"),
        (("random", 4, 0), "4 peers that send to 0 others each; wanted 1 to 3 others"),
    ],
)
def test_graphs_that_are_none_are_refused(asked, said):
    with pytest.raises(PeersError) as caught:
        topology.named(*asked)
    assert caught.value.public == said


# --- mixing matrices ---


@settings(deadline=None)
@given(graphs(), st.sampled_from(topology.KINDS), st.integers(0, 9))
def test_mixing_follows_the_graph_and_its_kind(graph, kind, round):
    assume(kind != "doubly" or graph.name != "random")
    matrix = topology.mixing(graph, kind, round)
    np.testing.assert_array_equal(matrix > 0, graph.heard(round) | np.eye(graph.peers, dtype=bool))
    for axis, mine in ((1, "row"), (0, "column")):
        if kind in (mine, "doubly"):
            np.testing.assert_allclose(matrix.sum(axis), 1, rtol=0, atol=1e-15)


def test_known_matrices():
    ring = [[0.5, 0.25, 0, 0.25], [0.25, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.25], [0.25, 0, 0.25, 0.5]]
    np.testing.assert_array_equal(topology.mixing(topology.named("ring", 4), "doubly"), ring)
    np.testing.assert_allclose(topology.mixing(topology.named("complete", 5), "doubly"), np.full((5, 5), 0.2))
    # In round 1 of three, peer 2 receives from peer 0.
    hop = topology.mixing(topology.named("exponential", 5), "doubly", 1)
    np.testing.assert_array_equal(hop[2], [0.5, 0, 0.5, 0, 0])
    # A star, whose centre has three neighbours: Metropolis-Hastings.
    star = topology.Graph("star", (((1, 2, 3), (0,), (0,), (0,)),))
    quarter = [[0.25, 0.25, 0.25, 0.25], [0.25, 0.75, 0, 0], [0.25, 0, 0.75, 0], [0.25, 0, 0, 0.75]]
    np.testing.assert_allclose(topology.mixing(star, "doubly"), quarter)


def test_a_graph_without_answers_is_not_mixed_doubly():
    with pytest.raises(PeersError, match="graph random has no doubly stochastic mixing matrix here"):
        topology.mixing(topology.named("random", 6, 2, 1), "doubly")
    with pytest.raises(PeersError, match="there is no kind 'left' of mixing matrix; wanted one of row, column, doubly"):
        topology.mixing(topology.named("ring", 3), "left")


# --- oracles ---


@settings(deadline=None)
@given(graphs(("ring", "complete", "exponential")), SEEDS)
def test_o10_doubly_stochastic_mixing_keeps_the_mean(graph, seed):
    vectors = _vectors(graph.peers, seed)
    mean = vectors.mean(0)
    for round in range(20):
        vectors = topology.mixing(graph, "doubly", round) @ vectors
        np.testing.assert_allclose(vectors.mean(0), mean, rtol=0, atol=1e-14)


@settings(deadline=None)
@given(st.integers(1, 40))
def test_o11_the_rings_second_eigenvalue_is_its_closed_form(peers):
    matrix = topology.mixing(topology.named("ring", peers), "doubly")
    wanted = 0.5 + 0.5 * math.cos(2 * math.pi / peers) if peers > 1 else 0.0
    assert topology.second_eigenvalue(matrix) == pytest.approx(wanted, abs=1e-12)
    assert topology.spectral_gap(matrix) == pytest.approx(1 - wanted, abs=1e-12)


def test_o11_the_consensus_error_contracts_by_it():
    matrix = topology.mixing(topology.named("ring", 8), "doubly")
    assert topology.second_eigenvalue(matrix) == pytest.approx(0.853553, abs=1e-6)
    vectors, errors = _vectors(8), []
    for _ in range(101):
        vectors = matrix @ vectors
        errors.append(np.linalg.norm(vectors - vectors.mean(0)))
    assert errors[100] / errors[99] == pytest.approx(0.853553, abs=1e-6)
    steps = np.array(errors[1:]) / np.array(errors[:-1])
    assert steps.max() <= topology.second_eigenvalue(matrix) + 1e-6


@settings(deadline=None)
@given(st.integers(2, 17), SEEDS)
def test_o12_row_stochastic_mixing_comes_to_the_perron_mean(peers, seed):
    matrix = topology.drawn(peers, "row", np.random.default_rng(seed))
    vectors, weights = _vectors(peers, seed), topology.perron(matrix)
    np.testing.assert_allclose(weights @ matrix, weights, rtol=0, atol=1e-14)
    assert weights.min() > 0
    assume(topology.second_eigenvalue(matrix) < 0.95)
    mixed = reduce(lambda held, step: matrix @ held, range(700), vectors)
    np.testing.assert_allclose(mixed, np.broadcast_to(weights @ vectors, mixed.shape), rtol=0, atol=1e-12)


def test_o12_which_is_not_the_mean():
    graph = topology.named("random", 8, 2, 0)
    vectors, weights = _vectors(8), topology.perron(topology.mixing(graph, "row"))
    assert abs(weights @ vectors - vectors.mean(0)).max() > 0.01
    # The weights of a walk on a graph of which every receiver hears as many as it tells are its degrees.
    star = topology.Graph("star", (((1, 2, 3), (0,), (0,), (0,)),))
    np.testing.assert_allclose(topology.perron(topology.mixing(star, "row")), np.array([4, 2, 2, 2]) / 10, atol=1e-15)


def _push_sum(matrices, vectors):
    weights = np.ones(len(vectors))
    for matrix in matrices:
        vectors, weights = matrix @ vectors, matrix @ weights
        yield vectors, weights


@settings(deadline=None)
@given(graphs(), SEEDS)
def test_o13_push_sum_keeps_sums_and_finds_the_mean(graph, seed):
    vectors = _vectors(graph.peers, seed)
    period = [topology.mixing(graph, "column", round) for round in range(len(graph.rounds))]
    for mixed, weights in _push_sum(period * (20 // len(period)), vectors):
        assert weights.sum() == pytest.approx(graph.peers, abs=1e-12)
        np.testing.assert_allclose(mixed.sum(0), vectors.sum(0), rtol=0, atol=1e-12)
    # One way round 17 peers is slow: what is left after 4096 rounds is cos(pi / 17) ** 4096, 3e-31.
    late = np.linalg.matrix_power(reduce(lambda first, then: then @ first, period), 4096)
    ((mixed, weights),) = _push_sum([late], vectors)
    ratio = mixed / weights[:, None]
    np.testing.assert_allclose(ratio, np.broadcast_to(vectors.mean(0), ratio.shape), rtol=0, atol=1e-12)


@settings(deadline=None)
@given(graphs(), SEEDS)
def test_o14_push_sum_of_a_row_stochastic_matrix_corrects_nothing(graph, seed):
    vectors = _vectors(graph.peers, seed)
    for _, weights in _push_sum((topology.mixing(graph, "row", round) for round in range(50)), vectors):
        np.testing.assert_allclose(weights, 1, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 7), st.integers(0, 20), SEEDS)
def test_o15_one_peer_exponential_is_exact_after_log2_rounds(power, first, seed):
    graph = topology.named("exponential", 2**power)
    vectors = _vectors(graph.peers, seed)
    rounds = (topology.mixing(graph, "doubly", first + round) for round in range(power))
    mixed = reduce(lambda held, matrix: matrix @ held, rounds, vectors)
    np.testing.assert_allclose(mixed, np.broadcast_to(vectors.mean(0), mixed.shape), rtol=0, atol=2e-15)


@given(SEEDS)
def test_o15_two_peers_are_an_all_reduce(seed):
    vectors = _vectors(2, seed)
    matrix = topology.mixing(topology.named("exponential", 2), "column")
    ((mixed, weights),) = _push_sum([matrix], vectors)
    np.testing.assert_allclose(mixed / weights[:, None], vectors.mean(0)[None].repeat(2, 0), rtol=0, atol=5.6e-17 * 8)


# --- matrices that somebody gives ---


@settings(deadline=None)
@given(graphs(("ring", "complete", "random")), st.sampled_from(topology.KINDS))
def test_our_own_matrices_pass_and_give_their_graph_back(graph, kind):
    assume(kind != "doubly" or graph.name != "random")
    matrix = topology.mixing(graph, kind)
    checked = topology.check(matrix.tolist(), kind)
    np.testing.assert_array_equal(checked, matrix)
    assert topology.of_matrix(checked).rounds == graph.rounds


@given(PEERS, st.sampled_from(["row", "column"]), SEEDS)
def test_drawn_matrices_pass(peers, kind, seed):
    topology.check(topology.drawn(peers, kind, np.random.default_rng(seed)), kind)


def test_no_matrix_is_drawn_doubly():
    with pytest.raises(PeersError, match="a random mixing matrix of kind 'doubly'; wanted row or column"):
        topology.drawn(3, "doubly", np.random.default_rng(0))


HALVES = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("matrix", "kind", "said"),
    [
        (HALVES, "left", "there is no kind 'left'"),
        ([[1, 0], [1]], "row", "is no square of numbers"),
        ([["a"]], "row", "is no square of numbers"),
        ([[1j]], "row", "is no square of numbers"),
        ([[0.5, 0.5]], "row", r"has shape \(1, 2\); wanted a square"),
        ([], "row", r"has shape \(0,\); wanted a square"),
        ([[0.5, 0.5], [0.5, float("nan")]], "row", r"row 1, column 1 \(from 0\) of the mixing matrix is nan"),
        ([[0.5, 0.5], [float("inf"), 0]], "row", r"row 1, column 0 \(from 0\) of the mixing matrix is inf"),
        ([[1.5, -0.5], [0.5, 0.5]], "row", r"row 0, column 1 \(from 0\) of the mixing matrix is -0.5"),
        ([[0.5, 0.5], [0.5, 0.4]], "row", r"row 1 \(from 0\) of the mixing matrix sums to 0.9; wanted 1, for kind row"),
        ([[0.9, 0.2], [0.1, 0.7]], "column", r"column 1 \(from 0\) of the mixing matrix sums to 0.9; wanted 1"),
        ([[0.9, 0.1], [0.2, 0.8]], "doubly", r"column 0 \(from 0\) of the mixing matrix sums to 1.1; wanted 1"),
        ([[1, 0], [0.5, 0.5]], "row", r"peer 0 \(from 0\) never hears of peer 1, not even through others"),
        (np.eye(3), "doubly", r"peer 0 \(from 0\) never hears of peer 1"),
        (np.roll(np.eye(3), 1, axis=0), "doubly", "only moves vectors in circles; give a peer a weight for its own"),
    ],
)
def test_matrices_that_do_not_mix_are_refused(matrix, kind, said):
    with pytest.raises(PeersError, match=said):
        topology.check(matrix, kind)


@settings(deadline=None)
@given(st.integers(2, 12), SEEDS)
def test_check_refuses_exactly_what_does_not_come_to_agreement(peers, seed):
    """Agreement itself is the oracle: sparse random matrices, some of which fall apart or run in circles."""
    generator = np.random.default_rng(seed)
    weights = generator.random((peers, peers)) * (generator.random((peers, peers)) < 1.6 / peers)
    weights[np.arange(peers), generator.permutation(peers)] += 0.1
    matrix = weights / weights.sum(1, keepdims=True)
    limit = np.linalg.matrix_power(matrix, 2**40)
    mixes = np.ptp(limit, axis=0).max() < 1e-6 and limit.min() > 1e-12
    try:
        topology.check(matrix, "row")
    except PeersError:
        assert not mixes
    else:
        assert mixes
