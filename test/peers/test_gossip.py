"""Protocols of peers that push and mix, in virtual time, against what is proved of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import Quadratic, cohort

from computation.errors import PeersError
from peers import topology
from peers.engines import virtual
from peers.engines.network import Network, Outage
from peers.noise import noisy
from peers.protocols.gossip import Gossip
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum
from peers.requests import Message, Poll, Report, Send, Wait, passed_on

peers = st.integers(2, 9)
probabilities = st.sampled_from((0.01, 0.1, 0.5, 1.0))
seeds = st.integers(0, 2**31)


def points(count, size=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size))


@settings(deadline=None, max_examples=40)
@given(count=peers, probability=probabilities, seed=seeds, latency=st.sampled_from((0.0, 0.01, 3.0)))
def test_o16_gossip_keeps_the_sum_of_weights_and_the_weighted_sum_of_models(count, probability, seed, latency):
    here = cohort(points(count, seed=seed), rounds=20, seed=seed)
    before = here.vectors().mean(0)
    virtual.run(here.starts(Gossip(probability)), Network(latency=latency, seconds=0.01, seed=seed))
    assert here.weights().sum() == pytest.approx(1.0, abs=1e-12)
    assert np.abs(here.weights() @ here.vectors() - before).max() < 1e-12


def test_o16_holds_in_every_moment_with_what_is_under_way():
    here = cohort(points(5), rounds=30, seed=3)
    under_way = {}

    def watched(steps, peer):
        answer = None
        while True:
            try:
                request = steps.send(answer)
            except StopIteration:
                return
            if isinstance(request, Send) and request.message.values is not None:
                under_way[peer.name, request.message.round] = request.message.weight
            if isinstance(request, Report) and request.closed:
                held = sum(one.memory.get("weight", 0.2) for one in here.peers.values())
                held += sum(m.weight for one in here.peers.values() for m in one.kept if m.values is not None)
                assert held + sum(under_way.values()) == pytest.approx(1.0, abs=1e-12)
            answer = yield request
            if isinstance(request, Poll | Wait):
                for message in answer:
                    under_way.pop((message.sender, message.round), None)

    # What was polled is mixed in before the next request, so between two reports nothing is counted twice.
    virtual.run(here.starts(Gossip(0.7), watched), Network(latency=0.003, seconds=0.01))


def test_o17_gossip_that_never_pushes_is_as_many_runs_alone():
    targets = points(4, seed=1)
    here = cohort(points(4), targets, rate=0.1, rounds=7)
    alone = points(4) + (targets - points(4)) * (1 - 0.9**7)
    outcome = virtual.run(here.starts(Gossip(0.0)), Network(seconds=1.0))
    assert np.abs(here.vectors() - alone).max() < 1e-12
    assert outcome.traffic.total().values == 0


def test_o17_messages_are_as_many_as_the_probability_says():
    count, rounds, probability = 20, 200, 0.1
    here = cohort(points(count, 1), rounds=rounds)
    outcome = virtual.run(here.starts(Gossip(probability)), Network(seconds=1.0))
    expected, spread = probability * count * rounds, (count * rounds * probability * (1 - probability)) ** 0.5
    assert abs(outcome.traffic.total().values - expected) < 4 * spread


def test_o18_changing_the_sender_after_the_push_does_not_change_the_receiver():
    here = cohort(points(2), rounds=1)
    values = np.ones(5)

    def sender(peer):
        yield Send("p0001", Message("x", values=values))
        values[:] = 7
        yield Poll()

    def receiver(peer):
        got = yield Wait(10.0)
        return got[0].values

    starts = {
        "p0000": lambda: (here.peers["p0000"], sender(here.peers["p0000"])),
        "p0001": lambda: (here.peers["p0001"], receiver(here.peers["p0001"])),
    }
    outcome = virtual.run(starts, Network(latency=1.0))
    assert (outcome.values["p0001"] == 1).all()


@settings(deadline=None, max_examples=40)
@given(count=peers, graph=st.sampled_from(("ring", "complete", "exponential")), seed=seeds)
def test_o10_doubly_stochastic_mixing_keeps_the_mean_at_every_step(count, graph, seed):
    here = cohort(points(count, seed=seed), rounds=1, seed=seed)
    before = here.vectors().mean(0)
    for _ in range(4):
        virtual.run(here.starts(Mixing("doubly", graph)))
        assert np.abs(here.vectors().mean(0) - before).max() < 1e-14


def test_o11_disagreement_shrinks_as_the_second_eigenvalue_says():
    count, rounds = 8, 60
    here = cohort(points(count), rounds=rounds)
    virtual.run(here.starts(Mixing("doubly", "ring")))
    at = np.linalg.norm(here.vectors() - here.vectors().mean(0))
    here = cohort(points(count), rounds=rounds + 1)
    virtual.run(here.starts(Mixing("doubly", "ring")))
    after = np.linalg.norm(here.vectors() - here.vectors().mean(0))
    assert after / at == pytest.approx(0.5 + 0.5 * np.cos(2 * np.pi / count), abs=1e-6)


def test_o12_row_stochastic_mixing_ends_at_the_perron_mean_and_not_at_the_mean():
    matrix = topology.drawn(6, "row", np.random.default_rng(5))
    here = cohort(points(6), rounds=200)
    virtual.run(here.starts(Mixing("row", matrix=matrix)))
    expected = topology.perron(matrix) @ points(6)
    assert np.abs(here.vectors() - expected).max() < 1e-12
    assert np.abs(expected - points(6).mean(0)).max() > 1e-3


@settings(deadline=None, max_examples=15)
@given(count=st.integers(1, 9), graph=st.sampled_from(("ring", "exponential", "random")), seed=seeds)
def test_o13_push_sum_keeps_its_sums_and_finds_the_mean_on_one_way_links(count, graph, seed):
    here = cohort(points(count, seed=seed), rounds=1, seed=seed)
    before = here.vectors().sum(0)
    for _ in range(80):
        virtual.run(here.starts(PushSum(graph)), Network(latency=0.1))
        sums = np.array([here.peers[name].memory["sum"] for name in here.peers])
        assert here.weights().sum() == pytest.approx(count, abs=1e-12)
        assert np.abs(sums.sum(0) - before).max() < 1e-12
        for peer in here.peers.values():
            peer.done, peer.rounds = peer.done + 1, peer.rounds + 1
    assert np.abs(here.vectors() - before / count).max() < 1e-4


def test_o15_one_peer_exponential_push_sum_is_exact_after_log_rounds_and_two_peers_are_an_all_reduce():
    here = cohort(points(8), rounds=3)
    virtual.run(here.starts(PushSum("exponential")))
    assert np.abs(here.vectors() - points(8).mean(0)).max() < 1e-15
    targets = points(2, seed=2)
    pair = cohort([[1.0] * 5] * 2, targets, rate=0.1, rounds=10)
    virtual.run(pair.starts(PushSum("exponential")))
    together = targets.mean(0) + (1.0 - targets.mean(0)) * 0.9**10
    assert np.abs(pair.vectors() - together).max() < 1e-14


def test_o19_noise_on_links_spreads_the_mean_as_the_theory_says():
    count, sigma, rounds, size = 8, 0.1, 50, 20_000
    here = cohort(np.zeros((count, size)), rounds=rounds)

    def wrapped(steps, peer):
        return noisy(steps, sigma, peer)

    virtual.run(here.starts(Mixing("doubly", "complete"), wrapped))
    expected = rounds * sigma**2 * (count - 1) / count**2 / count
    assert here.vectors().mean(0).var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "make", [lambda: Gossip(1.1), lambda: Gossip(-0.1), lambda: Mixing("column"), lambda: Gossip(float("nan"))]
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(PeersError, match="wanted"):
        make()


def test_a_push_that_is_not_finite_is_dropped_and_its_sender_named():
    here = cohort(points(2), rounds=1)
    heard = []
    here.peers["p0001"].refused = lambda sender, fault: heard.append((sender, fault))

    def bad(peer):
        yield Send("p0001", Message("gossip", 1, np.full(5, np.nan), 0.5))
        yield Send("p0001", Message("gossip", 1, np.ones(4), 0.5))
        yield Send("p0001", Message("gossip", 1, np.ones(5), -1.0))
        yield Send("p0001", Message("gossip-end", 1), reliable=True)

    good = here.peers["p0001"]
    virtual.run({"p0000": lambda: (here.peers["p0000"], bad(None)), "p0001": lambda: (good, Gossip(0.0)(good))})
    assert [sender for sender, _ in heard] == ["p0000"] * 3
    assert (good.learner.vector() == points(2)[1]).all()


@pytest.mark.parametrize("probability", [1.0, 0.5, 0.1])
def test_in_step_a_part_of_all_weight_is_under_way_while_all_learn(probability):
    """Of peers that take equally long, each push misses the round that its receiver has just begun.

    In hand m, under way f, m + f = 1: of m, p / 2 leaves in a round and comes in the one after the next, f = m p / 2.
    """
    here, held = cohort(points(16), rounds=60), []

    def noted(peer):
        usual = peer.learner.local_steps

        def local_steps(round):
            if round > 20:
                held.append(peer.memory["weight"])
            return usual(round)

        peer.learner.local_steps = local_steps

    for peer in here.peers.values():
        noted(peer)
    virtual.run(here.starts(Gossip(probability)), Network(seconds=1.0, latency=0.01))
    assert sum(held) / 40 == pytest.approx(1 / (1 + probability / 2), rel=0.03)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    def ran(seed):
        here = cohort(points(6), points(6, seed=9), rate=0.1, rounds=20, seed=seed)
        network = Network(latency=0.1, jitter=0.5, loss=0.1, duplication=0.1, seconds=0.2, seed=seed)
        outcome = virtual.run(here.starts(Gossip(0.5)), network)
        return here.vectors().tobytes(), outcome.seconds, outcome.traffic.as_json()

    assert ran(1) == ran(1)
    assert ran(1)[0] != ran(2)[0]


def lying(change, liar="p0001"):
    """Return steps of which one peer's models travel changed."""

    def lied(steps, peer):
        def told(request):
            if peer.name == liar and isinstance(request, Send) and request.message.values is not None:
                return replace(request, message=replace(request.message, **change(request.message)))
            return request

        return passed_on(steps, told)

    return lied


def heard(here):
    """Let all peers write down what they refuse, and return the list."""
    told = []
    for peer in here.peers.values():
        peer.refused = lambda sender, fault: told.append((sender, fault))
    return told


LIES = {
    "a weight beyond all there is": lambda message: {"weight": 1e308},
    "a negative weight": lambda message: {"weight": -1.0},
    "an absurd model": lambda message: {"values": message.values * 0 + 1e300},
    "a model that is none": lambda message: {"values": message.values * np.nan},
}


@pytest.mark.parametrize("protocol", [Gossip(), Mixing(), PushSum()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_liar_is_named_and_nobody_else_and_the_others_keep_their_models(protocol, lie):
    here = cohort(points(4), rounds=8, rate=0.1)
    told = heard(here)
    virtual.run(here.starts(protocol, lying(lie)), Network(seconds=1.0, latency=0.1))
    assert {sender for sender, _ in told} == {"p0001"}
    assert np.abs(here.vectors()).max() < np.abs(points(4)).max()


def test_a_push_of_more_than_half_of_all_is_refused_and_nobody_comes_to_hold_more_than_all():
    for weight, refused in ((0.51, True), (0.5, False)):
        here = cohort(points(4), rounds=50)
        told = heard(here)
        virtual.run(here.starts(Gossip(), lying(lambda _: {"weight": weight})), Network(seconds=1.0, latency=0.1))  # noqa: B023
        assert {sender for sender, _ in told} == ({"p0001"} if refused else set())
        assert here.weights().max() <= 1


@pytest.mark.parametrize("weight", [0.0, 1e-300])
def test_a_push_sum_of_hardly_any_weight_is_refused(weight):
    here = cohort(points(4), rounds=8, rate=0.1)
    told = heard(here)
    virtual.run(here.starts(PushSum(), lying(lambda _: {"weight": weight})), Network(seconds=1.0))
    assert {sender for sender, _ in told} == {"p0001"}


@pytest.mark.parametrize("graph", ["exponential", "ring", "complete", "random"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_push_sum_goes_on_without_a_peer_for_as_long_as_it_likes(graph, count):
    here = cohort(points(count), np.zeros((count, 5)), rounds=120, rate=0.1)
    virtual.run(here.starts(PushSum(graph)), Network(seconds=1.0, latency=0.1, outages=(Outage("p0001", 3.5),)))
    there = [index for index in range(count) if index != 1]
    assert here.weights()[there].min() > 0.1
    assert np.abs(here.vectors()[there]).max() < 1e-3


class WithStatistics(Quadratic):
    """Its last value stands for a batch-norm statistic, which each round's data set anew."""

    @property
    def parts(self):
        return {"parameters": slice(0, 4), "statistics": slice(4, 5)}

    def local_steps(self, round):
        done = super().local_steps(round)
        self.load_vector(np.append(self.vector()[:4], 2.0))
        return done


def test_push_sum_takes_batch_norm_statistics_for_values_and_not_for_steps():
    here = cohort(points(5), rounds=25)
    for peer in here.peers.values():
        peer.learner = WithStatistics(peer.learner.vector(), rate=0.1)
    virtual.run(here.starts(PushSum("random")))
    assert here.weights().min() < 0.9
    assert np.abs(here.vectors()[:, 4] - 2.0).max() < 1e-12
