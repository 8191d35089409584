"""One liar among five followers of an asynchronous leader, and none: who is named, and what it costs the others."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import Quadratic, cohort

from computation.federation.screening import Bounds
from computation.settings import Settings
from computation.strategies import Rule
from peers.engines import virtual
from peers.engines.network import Network, Outage
from peers.protocols.leader import SHARE, Leader
from peers.requests import Report, Send, passed_on
from peers.sieve import Said

BOUNDS, OFF, MEAN = Bounds.of(Settings()), Bounds(0, 0, 0, 0), Rule()
LIAR = "p0003"
ATTACKS = {
    "NaN": lambda share, start: np.full_like(share, np.nan),
    "x1000": lambda share, start: start + 1000 * (share - start),
    "flip x10": lambda share, start: start - 10 * (share - start),
}


class Drawn(Quadratic):
    """One that sees its point through noise, as who learns from a batch does."""

    def __init__(self, aim, rate, seed):
        super().__init__(np.zeros(len(aim)), aim, rate, np.float32)
        self.seed = seed

    def local_steps(self, round):
        aim = self.target
        self.target = aim + np.random.default_rng((self.seed, round)).normal(size=len(aim))
        try:
            return super().local_steps(round)
        finally:
            self.target = aim


def followers(seed=0, size=40, rounds=30, aggregator=True):
    """Return five, and a leader without samples, that go down to points of their own around one far off."""
    draw, count = np.random.default_rng(seed), 5 + aggregator
    aims = 10 + draw.normal(size=(count, size))
    weights = ([0.0] if aggregator else []) + [1.0] * 5
    here = cohort(np.zeros((count, size)), rounds=rounds, weights=weights)
    for index, peer in enumerate(here.peers.values()):
        peer.learner = Drawn(aims[index], 0.1, 1000 * seed + index)
    return here


class Watch:
    """Notes what the peers are told, and lets one of them lie."""

    def __init__(self, here, attack=None, liar=LIAR):
        self.attack, self.liar, self.told, self.skipped, self.clipped = attack, liar, {}, {}, set()
        for name, peer in here.peers.items():
            peer.refused = lambda sender, fault, name=name: self.told.setdefault(sender, []).append(fault)

    def __call__(self, steps, peer):
        start = peer.learner.vector()

        def see(request):
            nonlocal start
            if isinstance(request, Report) and request.closed:
                start = peer.learner.vector()
                self.skipped.update(request.skipped)
                self.clipped.update(request.clipped)
                peer.done = max(peer.done, request.round)
            if self.attack and peer.name == self.liar and isinstance(request, Send) and request.message.topic == SHARE:
                lie = self.attack(request.message.values.astype(np.float64), start).astype(np.float32)
                return dataclasses.replace(request, message=dataclasses.replace(request.message, values=lie))
            return request

        return passed_on(steps, see)


NETWORK = Network(latency=0.01, jitter=0.2, seconds=1.0, stragglers={"p0005": 5.0, "p0002": 2.0})


def ended(attack=None, bounds=BOUNDS, rule=MEAN, network=NETWORK, **how):
    """Return the honest followers' mean distance to where they go without a liar, and who was named."""
    here = followers(**how)
    watch = Watch(here, attack)
    with np.errstate(all="ignore"):
        virtual.run(here.starts(Leader(16, bounds=bounds, combining=rule), watch), network)
    aims = np.array([peer.learner.target for name, peer in here.peers.items() if name != LIAR and peer.trains])
    return float(np.abs(here.peers["p0001"].learner.vector() - aims.mean(0)).mean()), watch


@cache
def clean(rule):
    """Return the distance where nobody lies."""
    return ended(rule=rule)[0]


@pytest.mark.parametrize("rule", [MEAN, Rule("trimmed-mean"), Rule("median", mixes=True)], ids=lambda rule: rule.name)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_liar_is_named_and_costs_the_others_nothing(attack, rule):
    away, watch = ended(ATTACKS[attack], rule=rule)
    assert {*watch.skipped} == {LIAR} and {*watch.told} <= {LIAR}
    assert away < clean(rule) + 0.6  # how far an honest aim of five is from the mean of the other four


@pytest.mark.parametrize("attack", ["x1000", "flip x10"])
def test_without_screening_the_damage_shows(attack):
    away, watch = ended(ATTACKS[attack], OFF)
    assert away > 50 * clean(MEAN)
    assert all(why.startswith("refused: the payload holds values up to") for why in watch.skipped.values())


def test_what_is_no_number_is_no_share_with_screening_or_without():
    away, watch = ended(ATTACKS["NaN"], OFF)
    assert away < 2 and watch.skipped[LIAR].startswith("refused: ")


def test_a_rule_alone_withstands_what_nobody_screens():
    away, watch = ended(ATTACKS["x1000"], OFF, Rule("trimmed-mean"))
    assert away < 2 and not watch.skipped


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), aggregator=st.booleans(), bound=st.integers(0, 20), together=st.booleans())
def test_no_honest_straggler_is_blamed_whatever_comes_when(seed, aggregator, bound, together):
    here = followers(seed, aggregator=aggregator)
    alike = followers(seed, aggregator=aggregator)
    draw, watch = np.random.default_rng(seed), Watch(here)
    slow = {name: float(draw.uniform(1, 9)) for name in here.peers}
    outages = (Outage(sorted(here.peers)[-1], 10.0, 16.0),) if seed % 2 else ()
    network = Network(
        latency=0.01, jitter=3.0, loss=0.1, duplication=0.1, seconds=1.0, stragglers=slow, outages=outages, seed=seed
    )
    virtual.run(here.starts(Leader(bound, together, bounds=BOUNDS), watch), network)
    assert not watch.skipped and not watch.clipped and not watch.told
    # Where nothing is refused, not a bit is another one.
    virtual.run(alike.starts(Leader(bound, together), Watch(alike)), network)
    assert here.vectors().tobytes() == alike.vectors().tobytes()


@pytest.mark.parametrize("attack", ["x1000", "flip x10"])
def test_whoever_takes_over_knows_how_large_an_update_is(attack):
    here = followers(aggregator=False)
    watch = Watch(here, ATTACKS[attack])
    network = Network(latency=0.01, jitter=0.2, seconds=1.0, outages=(Outage("p0000", 5.5),))
    virtual.run(here.starts(Leader(16, bounds=BOUNDS), watch), network)
    assert {*watch.skipped} == {LIAR}
    assert np.abs(here.peers["p0001"].learner.vector() - 10).mean() < 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": 3.0}, "weighs 3; wanted the 1 that it joined with"),
        ({"round": 10**6}, "nobody can have done more than 30"),
        ({"values": np.full(40, 2e9, np.float32)}, "values up to 2e+09"),
    ],
)
def test_more_than_there_can_be_is_left_out_and_holds_up_nobody(change, said):
    here = followers()
    watch = Watch(here)

    def lying(steps, peer):
        def see(request):
            if peer.name == LIAR and isinstance(request, Send) and request.message.topic == SHARE:
                return dataclasses.replace(request, message=dataclasses.replace(request.message, **change))
            return request

        return passed_on(watch(steps, peer), see)

    outcome = virtual.run(here.starts(Leader(16, bounds=BOUNDS), lying), NETWORK)
    assert outcome.seconds < 200
    assert {*watch.told} == {*watch.skipped} == {LIAR} and said in watch.told[LIAR][0]


def test_too_few_for_the_rule_leave_the_mean_where_it_was():
    here = followers(rounds=6)
    watch, voids = Watch(here), []

    def seen(steps, peer):
        def see(request):
            if isinstance(request, Report) and request.closed:
                voids.append((peer.clock(), not request.counted))
            return request

        return passed_on(watch(steps, peer), see)

    gone = tuple(Outage(name, 1.5, 4.5) for name in ("p0003", "p0004", "p0005"))
    virtual.run(here.starts(Leader(1, combining=Rule("median")), seen), Network(seconds=1.0, outages=gone))
    assert {void for at, void in voids if at < 1.6} == {False}
    assert {void for at, void in voids if 1.6 < at < 4.4} == {True}
    assert not voids[-1][1] and np.isfinite(here.vectors()).all()


@pytest.mark.parametrize(
    "odd",
    [
        {"skipped": 3},
        {"skipped": {"p9": "outlier"}},
        {"skipped": {"p1": 3}},
        {"skipped": {"p1": "x" * 201}},
        {"clipped": {"p1": 1}},
        {"clipped": [["p1"]]},
        {"clipped": ["p9"]},
        {"void": 1},
    ],
)
def test_what_cannot_be_said_of_shares_is_not_believed(odd):
    assert Said.of(odd, ("p1",)) is None
    assert Said.of({"cycles": {}}, ("p1",)) == Said()
    said = Said({"p1": "outlier"}, ("p1",), True)
    assert Said.of(said.as_json(), ("p1",)) == said and Said().as_json() == {}
