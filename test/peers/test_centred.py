"""Protocols in which all peers hold one model: averaging, and averaging with a broadcast that repairs."""

from dataclasses import replace

import numpy as np
import pytest
from quadratic import cohort

from computation.errors import PeersError
from computation.strategies.fedavg import FedAvg
from computation.strategies.fedavgm import FedAvgM
from computation.strategies.gradient_mean import GradientMean
from peers import counts
from peers.engines import virtual
from peers.engines.network import Network
from peers.protocols.centred import Centred
from peers.protocols.ring_broadcast import RingBroadcast
from peers.requests import Mean, Report, passed_on

CHANCE = np.random.default_rng(7)
TARGETS = CHANCE.normal(size=(4, 5))
WEIGHTS = [1.0, 2.0, 4.0, 9.0]


def held(steps, log):
    """Carry requests on and write down the learner's model at the end of each round."""

    def see(request):
        if isinstance(request, Report) and request.closed:
            log(request)
        return request

    return passed_on(steps, see)


@pytest.mark.parametrize("collective", ["star", "ring"])
@pytest.mark.parametrize("strategy", [GradientMean(), FedAvg()])
def test_o6_o7_averaging_is_one_learner_on_everything(collective, strategy):
    here = cohort(np.ones((4, 5)), TARGETS, rate=0.1, rounds=12, weights=WEIGHTS)
    virtual.run(here.starts(Centred(strategy)), Network(collective=collective))
    centre = np.array(WEIGHTS) @ TARGETS / sum(WEIGHTS)
    assert np.abs(here.vectors() - (centre + (1 - centre) * 0.9**12)).max() < 1e-14
    assert len({one.learner.digest() for one in here.peers.values()}) == 1


def test_a_peer_that_only_evaluates_counts_for_nothing_and_gets_the_model():
    here = cohort(np.ones((3, 5)), TARGETS, rate=0.1, rounds=5, weights=[1.0, 0.0, 1.0])
    virtual.run(here.starts(Centred(GradientMean())))
    centre = TARGETS[[0, 2]].mean(0)
    assert np.abs(here.vectors() - (centre + (1 - centre) * 0.9**5)).max() < 1e-14


def test_a_peer_that_fails_once_is_left_out_of_that_round():
    here = cohort(np.ones((2, 5)), TARGETS, rate=0.1, rounds=2)
    learner, told = here.peers["p0001"].learner, []
    here.peers["p0001"].failed = lambda round, error: told.append((round, str(error)))
    sound = learner.gradient

    def gradient(round):
        if round == 1:
            raise OSError("no scan")
        return sound(round)

    learner.gradient = gradient
    virtual.run(here.starts(Centred(GradientMean())))
    after = TARGETS[0] + (1 - TARGETS[0]) * 0.9
    centre = TARGETS[:2].mean(0)
    assert np.abs(here.vectors() - (after - 0.1 * (after - centre))).max() < 1e-14
    assert told == [(1, "no scan")]


@pytest.mark.parametrize("collective", ["star", "ring"])
@pytest.mark.parametrize("protocol", [Centred(FedAvg()), Centred(GradientMean(), clients=0.5), RingBroadcast(2)])
def test_who_brings_more_weight_to_a_mean_than_it_joined_with_ends_the_run(collective, protocol):
    here = cohort(np.ones((4, 5)), TARGETS, rate=0.1, rounds=8, weights=WEIGHTS)

    def lied(steps, peer):
        def lie(request):
            return replace(request, weight=request.weight * 1.5) if isinstance(request, Mean) else request

        return passed_on(steps, lie if peer.name == "p0001" else lambda request: request)

    with pytest.raises(PeersError, match=r"come to .*, and those that they joined with to .*some peer brings more"):
        virtual.run(here.starts(protocol, lied), Network(collective=collective))


def test_each_peer_steps_a_copy_of_its_own_of_a_strategy_with_a_memory():
    strategy = FedAvgM(1.0, 0.5)
    here = cohort(np.ones((2, 5)), TARGETS, rate=0.1, rounds=6)
    virtual.run(here.starts(Centred(strategy)))
    values, moment = np.ones(5), np.zeros(5)
    for _ in range(6):
        moment = 0.5 * moment - 0.1 * (values - TARGETS[:2].mean(0))
        values = values + moment
    assert np.abs(here.vectors() - values).max() < 1e-14
    assert strategy.state() == ({}, {})


def test_a_round_in_which_all_fail_changes_nothing():
    here = cohort(np.ones((2, 5)), TARGETS, rate=0.1, rounds=1)
    for peer in here.peers.values():
        peer.failed = lambda round, error: None
        peer.learner.gradient = lambda round: 1 / 0
    counted = []
    virtual.run(here.starts(Centred(GradientMean()), lambda steps, peer: held(steps, counted.append)))
    assert (here.vectors() == 1).all()
    assert [report.counted for report in counted] == [(), ()]


def test_o9_sampled_clients_are_as_many_as_asked_for_and_the_same_for_all():
    here = cohort(np.ones((10, 5)), CHANCE.normal(size=(10, 5)), rate=0.1, rounds=6, seed=3)
    counted = {name: [] for name in here.peers}

    def noted(steps, peer):
        return held(steps, lambda report: counted[peer.name].append(report.counted))

    virtual.run(here.starts(Centred(FedAvg(), clients=0.25), noted))
    assert len({str(rounds) for rounds in counted.values()}) == 1
    assert [len(names) for names in counted["p0000"]] == [3] * 6
    assert len(set(counted["p0000"])) > 1
    assert sum(peer.learner.steps for peer in here.peers.values()) == 18


def test_o5_the_broadcast_repairs_at_the_next_multiple_of_tau_and_not_before():
    here = cohort(np.ones((3, 5)), TARGETS, rate=0.1, rounds=6)
    here.peers["p0002"].learner.load_vector(np.full(5, 1.5))
    spreads, drifts = {}, {}

    def noted(steps, peer):
        def log(report):
            spreads.setdefault(report.round, []).append(peer.learner.vector())
            drifts.setdefault(report.round, []).append(report.numbers.get("drift"))

        return held(steps, log)

    virtual.run(here.starts(RingBroadcast(4), noted), Network(collective="ring"))
    equal = {round: all(np.array_equal(one, rows[0]) for one in rows) for round, rows in spreads.items()}
    assert equal == {1: False, 2: False, 3: False, 4: True, 5: True, 6: True}
    assert drifts[3] == [None] * 3
    assert sorted(drifts[4])[:2] == [0.0, 0.0]
    assert max(drifts[4]) == pytest.approx(0.5, abs=1e-12)


def test_o5_the_broadcast_of_equal_models_changes_nothing():
    runs = []
    for tau in (1, 1000):
        here = cohort(np.ones((3, 5)), TARGETS, rate=0.1, rounds=6)
        virtual.run(here.starts(RingBroadcast(tau)), Network(collective="ring"))
        runs.append(here.vectors().tobytes())
    assert runs[0] == runs[1]


def test_the_counted_ring_with_a_broadcast_an_epoch_sends_what_the_published_table_says():
    size, workers, epoch = 99, 4, 10  # the weights' sum rides behind: 100 values travel in the ring
    here = cohort(np.ones((workers, size)), rounds=epoch)
    outcome = virtual.run(here.starts(RingBroadcast(epoch)), Network(collective="ring"))
    broadcast = size * (workers - 1)
    ring_whole = outcome.traffic.total().values - broadcast
    assert ring_whole == counts.ring_whole(size + 1, workers, epoch)
    assert ring_whole / workers + (size + 1) * (workers - 1) == counts.ring_broadcast(100, 4, 10) == 1800


def test_a_tau_of_nothing_is_refused():
    with pytest.raises(PeersError, match="tau is 0; wanted a whole number of rounds from 1"):
        RingBroadcast(0)
