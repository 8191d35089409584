"""A liar among neighbours that mix, and in the last mean: whom it moves, and who is never blamed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratic import cohort

from computation.federation.screening import NO_BOUNDS, Bounds
from computation.federation.screening.paths import Paths
from computation.settings import Settings
from peers import closing
from peers.engines import virtual
from peers.engines.network import Network
from peers.neighbours import sifted
from peers.protocols.mixing import Mixing
from peers.requests import Send, passed_on

BOUNDS, LIAR = Bounds.of(Settings()), "p0003"
ATTACKS = {
    "NaN": lambda values: np.full_like(values, np.nan),
    "x1000": lambda values: 1000 * values,
    "flip x100": lambda values: -100 * values,
}


def mixed(attack, bounds, graph="complete", rounds=15, seed=0):
    """Let five mix and come to their last mean; return it, who was left out, and what was told."""
    draw = np.random.default_rng(seed)
    here = cohort(np.full((5, 20), 1.0), 10 + draw.normal(size=(5, 20)), rate=0.1, rounds=rounds, dtype=np.float32)
    skipped, told, ended = {}, {}, {}

    def steps(peer):
        peer.refused = lambda sender, fault: told.setdefault(sender, fault)

        def screened(round, before, done):
            skipped.update({name: finding.scale for name, finding in done.findings.items() if finding.scale < 1})
            assert done.state.paths == Paths()  # nobody's drift is added up where there is no centre

        peer.screened = screened
        yield from Mixing("doubly", graph, bounds=bounds)(peer)
        ended[peer.name] = (yield from closing.last_mean(peer, rounds, bounds)).values, peer.clock()

    def lying(peer):
        def lie(request):
            if attack and peer.name == LIAR and isinstance(request, Send) and request.message.values is not None:
                values = ATTACKS[attack](request.message.values)
                return dataclasses.replace(request, message=dataclasses.replace(request.message, values=values))
            return request

        return passed_on(steps(peer), lie)

    with np.errstate(all="ignore"):
        virtual.run({n: lambda p=p: (p, lying(p)) for n, p in here.peers.items()}, Network(seconds=1.0))
    honest = [values for name, (values, _) in ended.items() if name != LIAR]
    assert all((values == honest[0]).all() for values in honest)
    return honest[0], skipped, told, max(at for name, (_, at) in ended.items() if name != LIAR)


@pytest.mark.parametrize("graph", ["complete", "exponential"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_liar_among_neighbours_moves_nobody_far_and_is_named(attack, graph):
    model, skipped, told, seconds = mixed(attack, BOUNDS, graph)
    clean, *_ = mixed(None, BOUNDS, graph)
    assert {*skipped, *told} == {LIAR}
    assert np.abs(model - clean).mean() < 1
    assert seconds < 20  # nobody waits for what cannot be read


def test_without_screening_the_damage_shows():
    model, skipped, *_ = mixed("flip x100", NO_BOUNDS)
    clean, *_ = mixed(None, NO_BOUNDS)
    assert np.abs(model - clean).mean() > 20 and not skipped


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), graph=st.sampled_from(["complete", "ring", "exponential"]))
def test_no_honest_neighbour_is_blamed_and_not_a_bit_is_another_one(seed, graph):
    model, skipped, told, _ = mixed(None, BOUNDS, graph, seed=seed)
    assert not skipped and not told
    assert model.tobytes() == mixed(None, NO_BOUNDS, graph, seed=seed)[0].tobytes()


def test_who_stays_behind_where_all_others_hold_one_model_is_left_out_of_the_last_mean_unless_it_is_near():
    (peer, *_) = cohort(np.zeros((4, 20))).peers.values()
    same = {name: np.ones(20) for name in ("p0000", "p0001", "p0002")}
    assert {*sifted(peer, {**same, "p0003": np.full(20, 1.02)}, BOUNDS)} == {*same, "p0003"}
    near = sifted(peer, {**same, "p0003": np.full(20, 1.02)}, BOUNDS)["p0003"]
    np.testing.assert_allclose(near, 1.012)  # a thousandth, twelve times
    assert {*sifted(peer, {**same, "p0003": np.full(20, 1.04)}, BOUNDS)} == {*same}
    # Of two there is no majority, and with no bounds no judgement.
    two = {"p0000": np.ones(20), "p0001": np.full(20, 9.0)}
    assert sifted(peer, two, BOUNDS) == two
    assert {*sifted(peer, {**same, "p0003": np.full(20, 9.0)}, NO_BOUNDS)} == {*same, "p0003"}
