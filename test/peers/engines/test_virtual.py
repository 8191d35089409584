"""Virtual time: what a network does to messages and peers, against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import cohort

from computation.errors import MessageError, PeersError
from computation.strategies.gradient_mean import GradientMean
from peers import counts
from peers.engines import virtual
from peers.engines.network import Network, Outage
from peers.protocols.centred import Centred
from peers.protocols.gossip import Gossip
from peers.protocols.push_sum import PushSum
from peers.requests import (
    COLLECTIVE,
    CONTENT,
    Broadcast,
    Get,
    Mean,
    Message,
    Peers,
    Poll,
    Publish,
    Put,
    Report,
    Send,
    Wait,
    passed_on,
    require,
)


def played(network, **scripts):
    """Run scripts, generator functions of a peer, and return the outcome."""
    here = cohort([[0.0]] * len(scripts))
    return virtual.run(
        {
            name: lambda peer=peer, script=script: (peer, script(peer))
            for (name, script), peer in zip(scripts.items(), here.peers.values(), strict=True)
        },
        network,
    )


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(0, 40),
    count=st.integers(1, 7),
    collective=st.sampled_from(("star", "ring")),
    seed=st.integers(0, 2**31),
    jitter=st.sampled_from((0.0, 1.0)),
    loss=st.sampled_from((0.0, 0.3)),
)
def test_o1_a_mean_is_the_mean_with_the_same_bits_everywhere(size, count, collective, seed, jitter, loss):
    chance = np.random.default_rng(seed)
    vectors, weights = chance.normal(size=(count, size)), chance.integers(0, 4, count).astype(float)

    def script(index):
        def steps(peer):
            return (yield Mean(vectors[index], weights[index]))

        return steps

    network = Network(latency=0.1, jitter=jitter, loss=loss, collective=collective, seed=seed)
    outcome = played(network, **{f"p{i:04d}": script(i) for i in range(count)})
    means = list(outcome.values.values())
    if not weights.sum():
        assert means == [None] * count
        return
    expected = weights @ vectors / weights.sum()
    assert all(np.array_equal(mean, means[0]) for mean in means)
    np.testing.assert_allclose(means[0], expected, rtol=1e-6, atol=1e-12)


@given(size=st.integers(1, 3000), count=st.integers(2, 8))
@settings(deadline=None, max_examples=40)
def test_o2_o4_the_ring_sends_its_shards_and_in_all_as_much_as_the_star(size, count):
    def steps(peer):
        yield Mean(np.zeros(size), 1.0)

    scripts = {f"p{i:04d}": steps for i in range(count)}
    ring = played(Network(collective="ring"), **scripts).traffic
    for place in range(count):
        # The sum of the weights rides behind the vector.
        assert ring.sent(f"p{place:04d}").values == counts.ring_sent(size + 1, count, place)
    assert ring.total().values == counts.ring_whole(size + 1, count)
    star = played(Network(collective="star"), **scripts).traffic
    assert star.total().values == 2 * size * count


@pytest.mark.parametrize(
    ("size", "megabits", "latency"), [(5_702, 100, 0.015), (96_500, 100, 0.015), (96_500, 20, 0.05)]
)
@pytest.mark.parametrize("count", [4, 8])
def test_time_is_what_the_model_of_latency_and_bandwidth_says(size, megabits, latency, count):
    values, bandwidth = np.zeros(size, np.float32), megabits * 1e6 / 8
    link = counts.Link(2 * latency, 8 * bandwidth)

    def mean(peer):
        yield Mean(values, 1.0)

    def push(peer):
        yield Send(peer.others[0] if peer.index else peer.names[-1], Message("x", values=values))
        if peer.index in (0, count - 1):
            yield Wait(100.0)

    scripts = {f"p{i:04d}": mean for i in range(count)}
    for collective, expected in (("ring", link.ring), ("star", link.star)):
        outcome = played(Network(latency=latency, bandwidth=bandwidth, collective=collective), **scripts)
        assert outcome.seconds == pytest.approx(expected(values.nbytes, count), rel=0.05)
    pair = {"p0000": push, "p0001": push}
    count = 2
    outcome = played(Network(latency=latency, bandwidth=bandwidth), **pair)
    assert outcome.seconds == pytest.approx(link.push(values.nbytes), rel=0.05)


def test_a_straggler_makes_all_wait_in_a_mean_and_nobody_in_gossip():
    def seconds(protocol):
        here = cohort([[1.0]] * 4, rate=0.1, rounds=10)
        network = Network(seconds=1.0, stragglers={"p0002": 5.0})
        finished = {}

        def noting(steps, peer):
            yield from steps
            finished[peer.name] = peer.clock()

        def until_closed(steps, peer):
            answer = None
            while True:
                request = steps.send(answer)
                answer = yield request
                if isinstance(request, Report) and request.closed and request.round == 10:
                    finished[peer.name] = peer.clock()
                    return

        virtual.run(here.starts(protocol, until_closed), network)
        return finished

    assert set(seconds(Centred(GradientMean())).values()) == {50.0}
    assert sorted(seconds(Gossip(1.0)).values()) == [10.0, 10.0, 10.0, 50.0]


def test_what_is_lost_is_lost_unless_it_must_arrive_and_what_comes_twice_comes_once():
    def sender(reliable):
        def steps(peer):
            for number in range(200):
                yield Send("p0001", Message("x", number + 1), reliable)

        return steps

    def receiver(peer):
        found = []
        while messages := (yield Wait(10.0)):
            found += [message.round for message in messages]
        return found

    network = Network(latency=0.1, loss=0.2, duplication=0.2, seed=4)
    lossy = played(network, p0000=sender(False), p0001=receiver)
    assert len(set(lossy.values["p0001"])) == len(lossy.values["p0001"]) == 200 - lossy.traffic.total().lost
    assert 20 < lossy.traffic.total().lost < 60
    assert 10 < lossy.traffic.total().duplicates < 60
    assert sorted(played(network, p0000=sender(True), p0001=receiver).values["p0001"]) == list(range(1, 201))


def test_messages_of_one_peer_come_in_order_and_with_jitter_one_overtakes_another():
    def sender(peer):
        for number in range(50):
            yield Send("p0001", Message("x", number))

    def receiver(peer):
        found = []
        while messages := (yield Wait(10.0)):
            found += [message.round for message in messages]
        return found

    assert played(Network(latency=0.1, bandwidth=1e4), p0000=sender, p0001=receiver).values["p0001"] == list(range(50))
    mixed = played(Network(latency=0.1, jitter=1.0), p0000=sender, p0001=receiver).values["p0001"]
    assert mixed != list(range(50))
    assert sorted(mixed) == list(range(50))


def test_a_peer_that_goes_ends_a_mean_and_is_named():
    here = cohort([[1.0]] * 3, rate=0.1, rounds=10)
    with pytest.raises(PeersError, match=r"p0001 went at 3\.500 s"):
        virtual.run(here.starts(Centred(GradientMean())), Network(seconds=1.0, outages=(Outage("p0001", 3.5),)))


@pytest.mark.parametrize("protocol", [Gossip(0.5), PushSum("complete")])
def test_gossip_goes_on_without_a_peer_that_goes_and_with_it_when_it_comes_back(protocol):
    here = cohort([[float(i)] for i in range(4)], rate=0.1, rounds=20, patience=5.0)
    network = Network(latency=0.01, seconds=1.0, outages=(Outage("p0001", 3.5, 8.0), Outage("p0003", 6.2)))

    def closing(steps, peer):
        def see(request):
            if isinstance(request, Report) and request.closed:
                peer.done = request.round
            return request

        return passed_on(steps, see)

    outcome = virtual.run(here.starts(protocol, closing), network)
    assert [(event.name, event.what) for event in outcome.events] == [
        ("p0001", "went"),
        ("p0003", "went"),
        ("p0001", "came back"),
    ]
    assert sorted(outcome.values) == ["p0000", "p0001", "p0002"]
    assert [here.peers[name].done for name in sorted(here.peers)] == [20, 20, 20, 6]


def test_who_waits_for_ever_is_named():
    def wrong(peer):
        yield Broadcast(np.zeros(3), "p0001")

    def other(peer):
        yield Poll()

    with pytest.raises(PeersError, match="p0000 waits for the others"):
        played(Network(), p0000=wrong, p0001=other)


def test_peers_that_ask_for_different_things_together_are_named():
    def one(peer):
        yield Mean(np.zeros(3), 1.0)

    def other(peer):
        yield Mean(np.zeros(4), 1.0)

    with pytest.raises(PeersError, match="p0001 asks for a mean of 4 values"):
        played(Network(), p0000=one, p0001=other)


@pytest.mark.parametrize("weight", [float("inf"), float("nan")])
def test_a_weight_that_cannot_be_is_not_sent(weight):
    def one(peer):
        yield Send(peer.others[0], Message("push", weight=weight))

    with pytest.raises(MessageError, match="a message on 'push' weighs"):
        played(Network(), p0000=one, p0001=one)


def test_published_texts_and_content_come_from_whoever_holds_them():
    def holder(peer):
        address = yield Put(b"model")
        yield Publish("models", address)
        yield Wait(100.0)

    def getter(peer):
        while not (messages := (yield Wait(10.0))):
            pass
        message = messages[0]
        content = yield Get(message.text, 10.0)
        missing = yield Get("0" * 64, 2.5)
        alive = yield Peers()
        return message.sender, content, missing, alive, peer.clock()

    outcome = played(Network(latency=0.5, outages=(Outage("p0000", 3.0),)), p0000=holder, p0001=getter)
    assert outcome.values["p0001"] == ("p0000", b"model", None, ("p0001",), 4.0)


def test_an_engine_that_does_not_carry_what_a_protocol_needs_is_refused():
    with pytest.raises(PeersError, match="protocol swarm needs content, which engine plain does not carry"):
        require("swarm", {COLLECTIVE, CONTENT}, "plain", {COLLECTIVE})


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.0}, {"latency": -1.0}, {"bandwidth": 0.0}, {"collective": "tree"}, {"jitter": float("nan")}]
)
def test_a_network_that_cannot_be_is_refused(wrong):
    with pytest.raises(PeersError, match=r"wanted|not"):
        Network(**wrong)


def test_a_thousand_peers_push_their_sums_to_the_mean():
    points = np.random.default_rng(0).normal(size=(1000, 8))
    here = cohort(points, rounds=10)
    outcome = virtual.run(here.starts(PushSum("exponential")), Network(latency=0.015, bandwidth=12.5e6, seconds=0.1))
    assert outcome.traffic.total().messages == 10_000
    assert np.abs(here.weights().sum() - 1000) < 1e-9
    spread = np.linalg.norm(here.vectors() - points.mean(0), axis=1).max()
    assert spread < 0.2
