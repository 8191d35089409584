"""SCAFFOLD with one vector on the wire, held against the paper's own two, whoever is missing; and what it is for."""

import numpy as np
import pytest
from hills import Hill
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ResumeError, SettingsError
from computation.settings import parse
from computation.strategies import Combined, named
from computation.strategies.base import Contribution
from computation.strategies.fedavg import FedAvg
from computation.strategies.scaffold import Scaffold

SITES = ("a", "b", "c", "d")
SIZE, RATE, STEPS = 3, 0.1, 4
ROUNDS = st.lists(st.sets(st.sampled_from(SITES), min_size=1), min_size=1, max_size=8)


class Consortium:
    """Sites on hills of their own, and a centre; a round needs to be told who counts and who was clipped."""

    def __init__(self, make=Scaffold, seed=0, sites=SITES, steps=STEPS, dtype=np.float64):
        chance = np.random.default_rng(seed)
        self.targets = chance.normal(size=(len(sites), SIZE))
        self.steepness = chance.uniform(0.2, 3.0, size=(len(sites), SIZE))
        self.sites, self.round = sites, 0
        self.learners = {
            site: Hill(np.zeros(SIZE), target, steepness, rate=RATE, steps=steps, dtype=dtype)
            for site, target, steepness in zip(sites, self.targets, self.steepness, strict=True)
        }
        self.strategies = {site: make(site) for site in sites}
        self.centre, self.replica = make(""), Hill(np.zeros(SIZE), steps=steps, dtype=dtype)

    @property
    def lowest(self):
        """Where the mean of all hills is lowest."""
        return (self.steepness * self.targets).sum(0) / self.steepness.sum(0)

    def play(self, counted=None, clipped=()):
        """Do one round: all sites compute, those that count are in the mean, and all apply it."""
        self.round += 1
        counted = sorted(counted or self.sites)
        offered = {site: self.offer(site) for site in self.sites}
        combined = self.centre.combine([offered[site] for site in counted])
        combined = Combined(self.round, combined.sites, combined.loss, combined.values, tuple(clipped))
        self.centre.apply(self.replica, combined)
        for site in self.sites:
            self.strategies[site].apply(self.learners[site], combined)
            assert self.learners[site].digest() == self.replica.digest()
        return self.replica.vector()

    def offer(self, site):
        values, loss, _ = self.strategies[site].contribute(self.learners[site], self.round)
        return Contribution(site, self.round, "m", 1.0, loss, values)

    def variates(self, name="own"):
        return {site: one.state()[0].get(name, np.zeros(SIZE)) for site, one in self.strategies.items()}


class Papers:
    """Algorithm 1 with option II, line for line, with the change of each control variate on the wire."""

    def __init__(self, like):
        self.hills, self.values = like.learners, np.zeros(SIZE)
        self.own, self.common = {site: np.zeros(SIZE) for site in like.sites}, np.zeros(SIZE)

    def play(self, counted):
        models, changes = [], []
        for site in sorted(counted):
            values = self.values
            for _ in range(STEPS):
                values = values - RATE * (self.hills[site].slope(values) - self.own[site] + self.common)
            changed = self.own[site] - self.common + (self.values - values) / (STEPS * RATE)
            models.append(values - self.values)
            changes.append(changed - self.own[site])
            self.own[site] = changed
        self.values = self.values + np.mean(models, 0)
        self.common = self.common + len(counted) / len(self.own) * np.mean(changes, 0)


@settings(max_examples=40, deadline=None)
@given(rounds=ROUNDS, seed=st.integers(0, 99))
def test_it_is_the_papers_algorithm_whoever_is_missing(rounds, seed):
    ours = Consortium(lambda site: Scaffold(site, patience=9), seed=seed)
    theirs = Papers(ours)
    for counted in [set(SITES), *rounds]:
        theirs.play(counted)
        np.testing.assert_allclose(ours.play(counted), theirs.values, rtol=1e-9, atol=1e-12)
        for site in SITES:
            np.testing.assert_allclose(ours.variates()[site], theirs.own[site], rtol=1e-8, atol=1e-11)
            np.testing.assert_allclose(ours.variates("common")[site], theirs.common, rtol=1e-8, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(rounds=ROUNDS, clipped=st.sets(st.integers(1, 8)), seed=st.integers(0, 99))
def test_the_common_variate_is_the_mean_of_all_that_are_known(rounds, clipped, seed):
    """Also where some join late, stay away for long, or were clipped: nobody is corrected by a rest of others."""
    ours = Consortium(seed=seed)
    for number, counted in enumerate(rounds, 1):
        ours.play(counted, sorted(counted)[:1] if number in clipped else ())
        states = {site: one.state() for site, one in ours.strategies.items()}
        known = {tuple(values["latest"]) for _, values in states.values()}
        assert len(known) == 1
        (names,) = known
        own, common = ours.variates(), ours.variates("common")
        mean = np.mean([own[site] for site in names], 0) if names else np.zeros(SIZE)
        for site in SITES:
            np.testing.assert_allclose(common[site], mean, rtol=1e-8, atol=1e-11)
            assert site in names or not own[site].any()


def test_the_first_round_is_federated_averaging_to_the_last_bit():
    assert Consortium().play().tobytes() == Consortium(lambda site: FedAvg()).play().tobytes()


def test_sites_that_differ_do_not_pull_it_from_where_all_together_are_lowest():
    """What it is for: federated averaging of many local steps ends somewhere else."""
    ours, plain = Consortium(steps=10), Consortium(lambda site: FedAvg(), steps=10)
    for _ in range(200):
        ours.play()
        plain.play()
    assert np.abs(ours.replica.vector() - ours.lowest).max() < 1e-9
    assert np.abs(plain.replica.vector() - plain.lowest).max() > 1e-2


def test_float32_on_the_wire_keeps_it_there():
    ours = Consortium(steps=10, dtype=np.float32)
    for _ in range(1000):
        ours.play()
    assert np.abs(ours.replica.vector() - ours.lowest).max() < 1e-5


def test_a_site_that_is_gone_for_good_pulls_nobody():
    ours = Consortium(steps=10)
    for _ in range(20):
        ours.play()
    for _ in range(300):
        ours.play(SITES[:3])
    lowest = (ours.steepness[:3] * ours.targets[:3]).sum(0) / ours.steepness[:3].sum(0)
    assert np.abs(ours.replica.vector() - lowest).max() < 1e-9


def test_a_clipped_site_pulls_nobody():
    ours = Consortium(steps=10)
    for _ in range(20):
        ours.play()
    ours.play(clipped=("b",))
    assert not any(own.any() for own in ours.variates().values())
    for _ in range(200):
        ours.play()
    assert np.abs(ours.replica.vector() - ours.lowest).max() < 1e-9


def test_a_site_that_took_fewer_steps_keeps_the_sum():
    """Its time was up: the nominal number of steps counts, and the common variate stays the mean."""
    ours = Consortium()
    ours.learners["b"].steps = 1
    for _ in range(5):
        ours.play()
        mean = np.mean(list(ours.variates().values()), 0)
        np.testing.assert_allclose(ours.variates("common")["a"], mean, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("computed", [False, True])
def test_restored_strategies_go_on_as_the_unbroken_ones(cut, computed):
    """Between two rounds, and, as a site's checkpoints are, between its offer and what became of it."""
    course = [SITES, ("a", "b"), SITES, ("b", "c", "d"), SITES]
    unbroken, broken = Consortium(), Consortium()
    for number, counted in enumerate(course, 1):
        unbroken.play(counted)
        if number == cut and not computed:
            _restart(broken)
        if number == cut and computed:
            broken.round += 1
            for site in SITES:
                broken.offer(site)
            broken.round -= 1
            _restart(broken)
        broken.play(counted)
    assert unbroken.replica.vector().tobytes() == broken.replica.vector().tobytes()


def _restart(consortium):
    for site, one in consortium.strategies.items():
        consortium.strategies[site] = Scaffold(site)
        consortium.strategies[site].load_state(*one.state())


def test_a_round_that_was_void_changes_nothing():
    ours, other = Consortium(), Consortium()
    ours.play()
    other.play()
    ours.round += 1
    for site in SITES:
        ours.offer(site)
    other.round += 1
    ours.play()
    other.play()
    assert ours.replica.vector().tobytes() == other.replica.vector().tobytes()


@pytest.mark.parametrize(("arrays", "values"), [({"momentum": np.zeros(1)}, {}), ({}, {"else": 1})])
def test_another_strategys_state_is_refused(arrays, values):
    with pytest.raises(ResumeError, match="another strategy"):
        Scaffold("a").load_state(arrays, values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": "adamw"}, "setting 'optimizer' is 'adamw'; strategy 'scaffold' wants 'sgd'"),
        ({"momentum": 0.9}, "setting 'momentum' is 0.9; strategy 'scaffold' wants 0.0"),
        ({"weighting": "scans"}, "setting 'weighting' is 'scans'; strategy 'scaffold' wants 'equal'"),
        ({"rule": "median"}, "setting 'rule' is 'median'; strategy 'scaffold' wants 'mean'"),
        ({"secure_aggregation": True}, "setting 'secure_aggregation' is True; strategy 'scaffold' wants False"),
        (
            {"optimizer": "adamw", "momentum": 0.9},
            "setting 'optimizer' is 'adamw', 'momentum' is 0.9; strategy 'scaffold' wants 'sgd', 0.0, since",
        ),
    ],
)
def test_what_the_corrections_do_not_follow_from_is_refused(changes, said):
    fits = {"strategy": "scaffold", "optimizer": "sgd", "momentum": 0, "weighting": "equal"}
    assert isinstance(named(parse(fits)[0]), Scaffold)
    with pytest.raises(SettingsError) as caught:
        parse(fits | changes)
    assert said in caught.value.public
