"""LEARNAE in virtual time: what its rules promise, its metrics, churn, and foreign contents that nobody falls for."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studious import Studious, slices, swarm

from computation.errors import PeersError
from computation.wire import payload
from computation.wire.payload import MODEL, Payload
from peers import cid
from peers.engines import virtual
from peers.engines.network import Network, Outage
from peers.peer import Peer
from peers.protocols.swarm import Swarm
from peers.requests import Get, Message, Poll, Publish, Put, Report, Wait, passed_on
from peers.swarm import words
from peers.swarm.known import Known
from peers.swarm.words import HashList, Offer, Use

NETWORK = Network(latency=0.01, bandwidth=1e6, seconds=0.1)


def watched(said, reports=None):
    """Wrap a protocol so that all that it publishes and reports is written down, in the order of virtual time."""

    def wrapped(steps, peer):
        def see(request):
            if isinstance(request, Publish):
                said.append((peer.name, words.read(request.topic, request.text)))
            if isinstance(request, Report) and request.closed and reports is not None:
                reports.append((peer.clock(), peer.name, dict(request.numbers), request.counted))
            return request

        return passed_on(steps, see)

    return wrapped


def run(here, protocol, network=NETWORK, said=None, reports=None):
    return virtual.run(here.starts(protocol, watched([] if said is None else said, reports)), network)


@settings(deadline=None, max_examples=20)
@given(
    count=st.integers(1, 6),
    each=st.integers(1, 4),
    overuse=st.integers(1, 4),
    jitter=st.sampled_from((0.0, 0.5)),
    seed=st.integers(0, 99),
)
def test_o25_a_slice_that_enough_others_used_is_not_chosen_and_maturity_rises(count, each, overuse, jitter, seed):
    here = swarm([slices(each, index) for index in range(count)], rounds=12, seed=seed)
    before = {}

    def choosing(steps, peer):
        """See, whenever a peer says that it used a slice, how many others it had heard of before."""

        def see(request):
            if isinstance(request, Publish):
                word = words.read(request.topic, request.text)
                if isinstance(word, Use):
                    (slice,) = word.slices  # each is told of at once where `every` is 0
                    known = peer.memory.get("known", {}).get("used", {}).get(slice, [])
                    before.setdefault(peer.name, []).append(len(known))
                if isinstance(word, Offer):
                    assert word.maturity == before.setdefault(peer.name + " matured", 0) + 1
                    before[peer.name + " matured"] += 1
            return request

        return passed_on(steps, see)

    network = Network(latency=0.01, jitter=jitter, seconds=0.1, seed=seed)
    virtual.run(here.starts(Swarm(share=True, overuse=overuse), choosing), network)
    assert all(used < overuse for name, seen in before.items() if isinstance(seen, list) for used in seen)


def test_o25_training_and_averaging_never_overlap():
    here = swarm([slices(3, index) for index in range(4)], rounds=20)
    reports = []  # the learner itself asserts that nobody writes its model while it studies
    run(here, Swarm(share=True), reports=reports)
    assert any(len(counted) == 2 for *_, counted in reports)


def test_without_a_threshold_nodes_go_on_and_with_one_they_stop():
    free, bound = (swarm([slices(1), [], []], rounds=15) for _ in range(2))
    run(free, Swarm(share=True))
    run(bound, Swarm(share=True, overuse=1))
    assert min(len(peer.learner.studied) for peer in free.peers.values()) > 5
    assert [len(peer.learner.studied) for peer in bound.peers.values()] == [1, 0, 0]


def test_the_slice_that_was_used_least_is_chosen():
    here = swarm([slices(7)], rounds=70)
    run(here, Swarm())
    learned = Counter(here.peers["n0"].learner.studied)
    assert len(learned) == 7
    # One's own use counts once: after all seven, chance alone decides.
    assert set(here.peers["n0"].learner.studied[:7]) == set(slices(7))


def test_nodes_come_near_to_what_one_node_with_all_slices_finds():
    owns = [slices(4, index) for index in range(6)]
    here, alone = swarm(owns, rounds=40), swarm([[one for own in owns for one in own]], rounds=40)
    reports = []
    run(here, Swarm(share=True), reports=reports)
    run(alone, Swarm())
    mean = np.mean([peer.learner.accuracy() for peer in here.peers.values()])
    assert mean > alone.peers["n0"].learner.accuracy() - 0.05


def test_without_sharing_slices_stay_where_they_are_and_marks_tell_nothing():
    here, said = swarm([slices(3, index) for index in range(3)], rounds=10), []
    outcome = run(here, Swarm(), said=said)
    uses = [mark for _, word in said if isinstance(word, Use) for mark in word.slices]
    assert uses and not any(isinstance(word, HashList) for _, word in said)
    assert not any(cid.is_address(mark) for mark in uses)
    assert all(set(peer.learner.studied) <= set(slices(3, place)) for place, peer in enumerate(here.peers.values()))
    assert outcome.traffic.total().bytes > 0  # models travel


def test_a_member_who_does_not_share_keeps_its_slices_and_still_learns_from_others():
    here = swarm([slices(2), slices(2, 1)], rounds=20)
    here.peers["n1"].learner.shares = False
    run(here, Swarm(share=True))
    assert set(here.peers["n0"].learner.studied) == set(slices(2))
    assert set(here.peers["n1"].learner.studied) == {*slices(2), *slices(2, 1)}


def test_slices_of_people_are_never_shared():
    here = swarm([slices(2)], rounds=1, people=True)
    with pytest.raises(PeersError, match="never shared"):
        run(here, Swarm(share=True))
    run(swarm([slices(2)], rounds=1, people=True), Swarm())


def test_roles():
    here = swarm([slices(3), slices(2, 1), []], rounds=30)
    roles = {"n0": Swarm("feeder", share=True), "n1": Swarm("trainer", share=True), "n2": Swarm(share=True)}
    starts = {name: lambda peer=peer: (peer, roles[peer.name](peer)) for name, peer in here.peers.items()}
    virtual.run(starts, NETWORK)
    assert not here.peers["n0"].learner.studied
    assert set(here.peers["n1"].learner.studied) == set(here.peers["n2"].learner.studied) == set(slices(3))


def test_the_weight_of_a_remote_model_is_a_half_or_goes_by_maturity():
    for weight, expected in (("half", 0.5), ("maturity", 0.25)):
        here = swarm([slices(1)], rounds=3, rate=0.0)
        here.peers["n0"].learner.goal = np.full(5, 9.0)
        values = np.ones(5)

        def other(peer, values=values):
            yield from _offers(peer, values, 1, 0.9)
            yield Wait(100.0)

        peer = here.peers["n0"]
        against(peer, Swarm(weight=weight, maturity=0.0), other)  # after three cycles of its own
        assert peer.learner.vector() == pytest.approx(np.full(5, expected))


def against(peer, protocol, other):
    """Run a peer that keeps to the protocol, and another that does what it likes."""
    own, network = _idle("n1"), Network(latency=0.01, bandwidth=1e9, seconds=0.1)
    virtual.run({peer.name: lambda: (peer, protocol(peer)), "n1": lambda: (own, other(own))}, network)


def _idle(name):
    return Peer(name, {name: 1.0}, Studious([], np.ones(5)), 1)


def _offers(peer, values, maturity, accuracy, site=None):
    whole = Payload(MODEL, maturity, peer.learner.manifest, values, site=site or peer.name)
    address = yield Put(payload.encode(whole))
    yield Publish("model", words.write(Offer(address, accuracy, maturity)))


def test_models_that_are_too_young_or_not_accurate_enough_are_not_mixed_with():
    here = swarm([slices(1)], rounds=6, rate=0.0)
    peer = here.peers["n0"]
    peer.memory["known"] = {**Known().as_json(), "maturity": 10}

    def other(own):
        yield from _offers(own, np.ones(5), 3, 0.99)
        yield from _offers(own, np.ones(5), 20, 0.1)
        yield Wait(100.0)

    against(peer, Swarm(), other)
    assert (peer.learner.vector() == 0).all()


def hostile(contents, rounds=8, verify=False):
    """Let a peer publish what `contents` yields; return the victim and what it said of the other."""
    here = swarm([slices(1)], rounds=rounds, rate=0.0, patience=2.0)
    peer, heard = here.peers["n0"], []
    peer.refused = lambda sender, fault: heard.append((sender, fault))

    def other(own):
        yield Wait(0.15)
        yield from contents(own)
        yield Wait(100.0)

    against(peer, Swarm(share=True, verify=verify, overuse=1), other)
    assert (peer.learner.vector() == 0).all()
    assert peer.learner.studied in ([], slices(1))
    assert {sender for sender, _ in heard} == {"n1"}
    return heard


def _published(topic, word):
    def contents(own):
        yield Publish(topic, json.dumps(word))

    return contents


ADDRESS = cid.raw(b"something")


@pytest.mark.parametrize(
    ("contents", "fault"),
    [
        (lambda own: _offers(own, np.full(5, np.nan), 1, 0.9), "NaN"),
        (lambda own: _offers(own, np.ones(5), 1, 0.9, site="n2"), "another node's"),
        (lambda own: _offers(own, np.ones(5, np.float32), 1, 0.9), "bytes; wanted"),
        (_published("model", {"address": ADDRESS, "accuracy": 1.5, "maturity": 1}), "accuracy"),
        (_published("model", {"address": ADDRESS, "accuracy": 0.5, "maturity": 0}), "maturity"),
        (_published("model", {"address": "../../etc/passwd", "accuracy": 0.5, "maturity": 1}), "CIDv1"),
        (_published("model", {"address": ADDRESS, "accuracy": 0.9, "maturity": 1}), "cannot be had"),
        (_published("slices", {"address": ADDRESS, "more": 1}), "more"),
        (_published("slices", {"address": ADDRESS}), "cannot be had"),
        (_published("use", {"slices": ["a"]}), "mark"),
        (_published("use", {"slices": []}), "mark"),
        (_published("use", {"slices": ["0" * 64] * 101}), "at most 100"),
        (_published("use", ["a"]), "object"),
        (_published("commands", {}), "none of a swarm"),
    ],
)
def test_foreign_messages_and_models_are_refused_and_their_sender_named(contents, fault):
    heard = hostile(contents, rounds=20)
    assert fault in heard[0][1]


def test_a_list_of_a_million_slices_is_refused():
    def contents(own):
        address = yield Put(words.listing([ADDRESS] * 1_000_000))
        yield Publish("slices", words.write(HashList(address)))

    assert "wanted at most" in hostile(contents)[0][1]


def test_a_slice_that_is_none_is_refused_and_not_served():
    def contents(own):
        slice = yield Put(b"no slice")
        listing = yield Put(words.listing([slice]))
        yield Publish("slices", words.write(HashList(listing)))

    assert "no slice" in hostile(contents)[0][1]


def test_a_content_that_is_not_what_its_address_names_is_refused():
    assert cid.belies(cid.raw(b"one"), b"other")
    assert not cid.belies(cid.raw(b"one"), b"one")
    here = swarm([[], []], rounds=5)
    peer, heard = here.peers["n0"], []
    peer.refused = lambda sender, fault: heard.append(fault)
    steps = Swarm(share=True)(peer)
    answer = None
    while True:  # an engine that believes everything
        try:
            request = steps.send(answer)
        except StopIteration:
            break
        answer = b"other" if isinstance(request, Get) else None
        if isinstance(request, Wait | Poll):
            answer = [_message("n1", Offer(ADDRESS, 1.0, 1))]
    assert "not what its address names" in heard[0]


def _message(sender, word):
    return Message(words.TOPICS[type(word)], text=words.write(word), sender=sender)


def test_a_flood_of_messages_is_cut_and_told_once():
    def contents(own):
        for place in range(2000):
            yield Publish("use", words.write(Use((f"{place:064x}",))))

    heard = hostile(contents, rounds=4)
    assert sum("at once" in fault for _, fault in heard) <= 4


def test_a_model_that_is_worse_than_its_sender_says_is_found_where_that_is_measured():
    heard = hostile(lambda own: _offers(own, np.full(5, 1000.0), 1, 1.0), verify=True)
    assert "it said 1.000" in heard[0][1]


def test_however_many_nodes_there_are_together_they_say_as_much_and_every_use_is_told():
    def offers(count):
        here, said = swarm([slices(2, index) for index in range(count)], rounds=150), []
        outcome = run(here, Swarm(share=True, pace=0.2, every=1.0), said=said)
        told = Counter(name for name, word in said if isinstance(word, Use) for _ in word.slices)
        for name, peer in here.peers.items():
            assert 0 <= len(peer.learner.studied) - told[name] < 0.2 * len(peer.learner.studied)
        return sum(isinstance(word, Offer) for _, word in said) / outcome.seconds

    assert offers(12) < 1.2 * offers(4)


def test_where_work_takes_longer_than_a_turn_should_a_node_rests_for_a_while_but_not_for_ever():
    def seconds(pace):
        return run(swarm([slices(3)], rounds=20), Swarm(pace=pace), NETWORK).seconds

    busy = seconds(0.0)
    assert 1.4 * busy < seconds(0.005) < 1.6 * busy  # ten paces, half of what the work takes
    assert 4.5 * busy < seconds(0.099) < 5.5 * busy  # four times as long as the work


def test_an_older_model_told_again_is_dropped():
    def contents(own):
        yield from _offers(own, np.zeros(5), 2, 0.9)
        yield from _offers(own, np.ones(5), 1, 0.9)
        yield from _offers(own, np.ones(5), 2, 0.9)

    assert [("wanted a higher one" in fault) for _, fault in hostile(contents)] == [True, True]


def test_o26_content_of_a_peer_that_went_is_lost_unless_another_had_fetched_it():
    def provider(peer):
        address = yield Put(b"a model")
        yield Publish("told", address)
        yield Wait(100.0)

    def fetcher(fetches, at):
        def steps(peer):
            (told,) = yield Wait(50.0)
            if fetches:
                assert (yield Get(told.text, 5.0)) == b"a model"
            yield Wait(at)
            return (yield Get(told.text, 5.0))

        return steps

    def found(fetches):
        roles = {"n0": provider, "n1": fetcher(fetches, 200.0), "n2": fetcher(False, 20.0)}
        starts = {name: lambda name=name: (_idle(name), roles[name](_idle(name))) for name in roles}
        return virtual.run(starts, Network(latency=0.1, outages=(Outage("n0", 10.0),)))

    lost, kept = found(False), found(True)
    assert lost.values["n2"] is None
    assert kept.values["n2"] == b"a model"
    assert kept.holders == (1, 1)
    assert 0 in lost.holders


def test_o27_nothing_comes_twice_between_two_and_something_does_in_a_mesh_and_all_bytes_are_counted():
    counted = {}
    for count in (2, 3, 6):
        here = swarm([slices(2, index) for index in range(count)], rounds=10)
        outcome = run(here, Swarm(share=True), Network(latency=0.01, seconds=0.1, mesh=3, answers=2))
        counted[count] = outcome.traffic.total()
    assert counted[2].again == counted[2].duplicates == 0
    assert counted[3].again > 0
    assert counted[6].again > 0
    assert all(count.again <= count.bytes for count in counted.values())


def test_a_node_that_leaves_loses_nobody_else_anything():
    owns = [slices(4, index) for index in range(5)]
    here, calm = swarm(owns, rounds=40), swarm(owns, rounds=40)
    reports, quiet = [], []
    outcome = run(
        here, Swarm(share=True), Network(latency=0.01, seconds=0.1, outages=(Outage("n2", 2.0),)), [], reports
    )
    run(calm, Swarm(share=True), Network(latency=0.01, seconds=0.1), [], quiet)
    stayed = {name: peer for name, peer in here.peers.items() if name != "n2"}
    assert [event.name for event in outcome.events] == ["n2"]
    assert all(peer.memory["known"]["maturity"] == 40 for peer in stayed.values())
    # Slices that n2 gave before it went are still learned from, and the others are as good as where nobody went.
    assert all(set(peer.learner.studied) >= set(slices(4, 2)) for peer in stayed.values())
    assert (
        min(p.learner.accuracy() for p in stayed.values())
        > min(p.learner.accuracy() for p in calm.peers.values()) - 0.05
    )


def test_who_comes_late_hears_of_slices_from_those_who_stay():
    here = swarm([slices(4), [], []], rounds=60)
    network = Network(latency=0.01, seconds=0.1, outages=(Outage("n2", 0.0, 2.5), Outage("n0", 2.0)))
    run(here, Swarm(share=True), network)
    assert set(here.peers["n2"].learner.studied) == set(slices(4))


def test_a_node_that_comes_back_goes_on_with_its_maturity_and_its_slices():
    here, said = swarm([slices(2), slices(2, 1)], rounds=30), []
    run(here, Swarm(share=True), Network(latency=0.01, seconds=0.1, outages=(Outage("n0", 1.0, 1.5),)), said)
    told = [word.maturity for name, word in said if name == "n0" and isinstance(word, Offer)]
    assert told == sorted(set(told)) and told[-1] > 20


def test_the_same_seed_gives_the_same_bits():
    def ran(seed):
        here = swarm([slices(3, index) for index in range(4)], rounds=15, seed=seed)
        network = Network(latency=0.01, jitter=0.2, loss=0.1, seconds=0.1, mesh=3, answers=2, seed=seed)
        outcome = run(here, Swarm(share=True, overuse=3), network)
        return here.vectors().tobytes(), outcome.seconds, outcome.traffic.as_json(), outcome.holders

    assert ran(1) == ran(1)
    assert ran(1)[0] != ran(2)[0]


@pytest.mark.parametrize(
    "options", [{"role": "boss"}, {"overuse": -1}, {"weight": "all"}, {"delta": 2.0}, {"cycle": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(PeersError, match="wanted"):
        Swarm(**options)


def test_memory_is_plain_json_and_bounded():
    here = swarm([slices(3, index) for index in range(3)], rounds=10)
    run(here, Swarm(share=True))
    memory = here.peers["n0"].memory
    assert json.loads(json.dumps(memory)) == memory
