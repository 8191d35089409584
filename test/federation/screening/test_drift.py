"""Updates to one side of the others', round after round: found where each round alone tells nothing."""

import json

import numpy as np
import pytest
from consortium import consortium
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.poison import little, poisoned
from computation import local
from computation.federation.screening import Bounds, State, drift, measuring, screen
from computation.federation.screening.paths import Paths, apart
from computation.federation.screening.sketching import SIZE, Sketches, seed
from computation.settings import Settings
from computation.strategies import Contribution

BOUND = 0.7
BOUNDS = Bounds.of(Settings(exclude_after=0, drifted_above=BOUND))
VALUES = 600
PARTS = {"parameters": slice(0, VALUES)}
NAMES = "abcdefghij"


class Cohort:
    """Honest sites, each with a bias of its own, and an attacker at the end, screened round by round."""

    def __init__(self, honest=4, bias=0.0, number=0, signal=0.5):
        self.draw = np.random.default_rng(number)
        self.bias = self.draw.normal(size=(honest, VALUES))
        self.bias *= bias / np.linalg.norm(self.bias, axis=1, keepdims=True) * VALUES**0.5
        self.honest, self.signal, self.round, self.state = honest, signal, 0, State()
        self.refused, self.bounds = set(), BOUNDS

    def next(self, attack=None, absent=()):
        """Screen a round; return the word for the attacker."""
        self.round += 1
        values = self.bias + self.draw.normal(size=(self.honest, VALUES)) + self.signal * self.draw.normal(size=VALUES)
        rows = [*values, *([attack(values)] if attack else [])]
        offers = [
            Contribution(name, self.round, f"model {self.round}", 1.0, 0.5, row.astype(np.float32))
            for name, row in zip(NAMES, rows, strict=False)
            if name not in absent
        ]
        self.draw.shuffle(offers)
        self.done = screen(offers, np.zeros(VALUES, np.float32), PARTS, self.state, self.bounds)
        self.state = State.from_json(json.loads(json.dumps(self.done.state.as_json())))
        assert self.state == self.done.state
        attacker = NAMES[self.honest]
        self.refused |= {*self.done.refused} - {attacker}
        return self.done.refused.get(attacker, "")


def aside(deviations):
    """Return the attack that lies so many deviations to one side."""
    return lambda values: np.mean(values, axis=0) - deviations * np.std(values, axis=0)


@pytest.mark.parametrize("honest", [4, 8])
def test_honest_sites_that_differ_less_than_the_bound_are_never_named(honest):
    cohort = Cohort(honest, bias=0.8 * BOUND)
    for _ in range(3_000):
        cohort.next()
    assert not cohort.refused
    assert max(finding.drift for finding in cohort.done.findings.values()) > 0.5 * BOUND


# Of three honest sites one pair in the middle says what is usual: chance lets a liar count in a round now and then.
@settings(deadline=None, max_examples=15)
@given(number=st.integers(0, 2**32), honest=st.integers(4, 8), bias=st.floats(0, 0.3))
def test_a_little_to_one_side_is_named_in_the_twelfth_round_at_the_latest(number, honest, bias):
    cohort = Cohort(honest, bias, number)
    told = [cohort.next(little) for _ in range(20)]
    assert "drifted" in told[:12] and {*told[told.index("drifted") :]} == {"drifted"}
    assert not cohort.refused


@pytest.mark.parametrize("signal", [0.0, 0.5, 3.0])
def test_who_was_honest_for_long_is_named_within_eighty_rounds_and_heard_again_in_the_end(signal):
    cohort = Cohort(signal=signal)
    own = lambda values: values[0] * 0 + cohort.draw.normal(size=VALUES) + values.mean(0)  # noqa: E731
    assert not any(cohort.next(own) for _ in range(100))
    told = [cohort.next(little) for _ in range(80)]
    assert told[0] == "" and told[-1] == "drifted"
    told = [cohort.next(own) for _ in range(60)]
    assert told[0] == "drifted" and told[-1] == "" and not cohort.refused


def test_twice_as_far_in_every_other_round_is_as_far():
    cohort = Cohort()
    told = [cohort.next(aside(3 if number % 2 else 0)) for number in range(60)]
    assert told[-1] == "drifted" and not cohort.refused


def test_two_who_lie_alike_are_both_named_among_seven():
    cohort = Cohort(6)
    for _ in range(30):
        cohort.bias[5] = aside(1.5)(cohort.draw.normal(size=(5, VALUES)))
        cohort.next(little)
    assert {site for site, why in cohort.done.refused.items() if why == "drifted"} == {"f", "g"}
    assert cohort.refused == {"f"}


def test_a_site_that_is_often_away_or_comes_late_is_neither_named_nor_a_shield():
    cohort = Cohort(5, bias=0.2)
    for number in range(200):
        absent = {"b"} if number % 3 else set("cd") if number < 50 else set()
        told = cohort.next(little, absent)
    assert told == "drifted" and not cohort.refused
    assert cohort.state.paths.sites == tuple("abcdef")


def test_three_sites_are_too_few_and_without_screening_nothing_is_added_up():
    cohort = Cohort(2)
    assert not any(cohort.next(lambda values: values.mean(0) - 3) for _ in range(40))
    assert cohort.state.paths == Paths()
    offers = [Contribution(name, 1, "m", 1.0, 0.5, np.ones(VALUES, np.float32)) for name in "abcde"]
    done = screen(offers, np.zeros(VALUES, np.float32), PARTS, State(), Bounds(0, 0, 0, 0))
    assert done.state.paths == Paths()


def test_who_drifts_is_left_out_only_where_that_is_asked_for_but_always_seen():
    told, asked = Cohort(), Cohort()
    told.bounds = Bounds.of(Settings())
    for _ in range(12):
        word, other = told.next(little), asked.next(little)
    drifts = {name: finding.drift for name, finding in told.done.findings.items()}
    assert (word, other) == ("", "drifted") and drifts["e"] > BOUND > 2 * max(drifts[name] for name in "abcd")


def test_values_that_are_no_numbers_spoil_no_sums():
    bounds, state = Bounds(0, 0, 0, 0, drifted=BOUND), State()
    draw = np.random.default_rng(0)
    for number in range(12):
        values = draw.normal(size=(6, VALUES)).astype(np.float32)
        values[5] = [np.inf, np.nan, 1e38][number % 3]
        offers = [Contribution(*pair, 1.0, 0.5, row) for pair, row in zip(_named(number), values, strict=True)]
        state = screen(offers, np.zeros(VALUES, np.float32), PARTS, state, bounds).state
    assert np.isfinite(np.frombuffer(state.paths.sums, np.float32)).all()
    assert np.isfinite(np.frombuffer(state.paths.chance)).all()


def _named(number):
    return [(name, number, "m") for name in "abcdef"]


@settings(deadline=None, max_examples=30)
@given(number=st.integers(0, 2**32), factor=st.sampled_from([2.0**-30, 0.25, 8.0, 2.0**40]))
def test_a_cohort_of_other_names_or_size_is_judged_alike(number, factor):
    draw = np.random.default_rng(number)
    plain, changed, names, order = Paths("s"), Paths("s"), "abcde", draw.permutation(5)
    for round in range(10):
        values = draw.normal(size=(5, VALUES))
        values[4] = little(values[:4])
        first, other = _tables(values), _tables(values[order] * (factor if round % 2 else 1.0))
        plain, drifts, gone = drift.judge(names, {}, *first, plain, BOUND)
        changed, found, out = drift.judge(names, {}, *other, changed, BOUND)
    assert gone == ("e",) and out == (names[order.tolist().index(4)],)
    assert [found[name] for name in names] == pytest.approx([drifts[names[place]] for place in order], abs=1e-4)


def _tables(values):
    short = Sketches(len(values), VALUES, "s")
    return measuring.products(list(values), np.zeros(VALUES), each=short.take), short.rows


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 2**32), rounds=st.integers(2, 40), size=st.integers(3, SIZE))
def test_distances_are_the_weighted_mean_of_all_products_of_two_different_rounds(number, rounds, size):
    """Few values are only turned round, never added up, so the definition can be held against it, pair by pair."""
    draw = np.random.default_rng(number)
    steps, paths = draw.normal(size=(rounds, 2, size)) + draw.normal(size=(2, size)), Paths("s")
    for round in steps:
        short = Sketches(2, size, "s")
        paths = paths.followed("ab", _rows(round, short), measuring.products(list(round), np.zeros(size)))
    weights, apart_in = (1 - 1 / 32) ** np.arange(rounds)[::-1], steps[:, 0] - steps[:, 1]
    products = np.outer(weights, weights) * (1 - np.eye(rounds))
    expected = (products * (apart_in @ apart_in.T)).sum() / products.sum()
    assert paths.distances("ab")[0][1] ** 2 == pytest.approx(max(expected, 0), rel=1e-4, abs=1e-4 * size)


def _rows(values, short):
    short.take(0, values)
    return short.rows


def test_a_sketch_keeps_distances_and_hides_its_signs():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(6, 20_000))
    for signs in (seed(["x"]), seed(["y"])):
        short = Sketches(6, 20_000, signs)
        exact = apart(measuring.products(list(values), np.zeros(20_000), each=short.take))
        near = apart(short.rows @ short.rows.T)
        assert np.all(np.abs(near - exact) <= 0.3 * exact)
    assert seed(["x", "y"]) == seed(["y", "x"]) != seed(["x", "z"])


def test_the_signs_follow_from_what_all_offered_first():
    first, other, same = Cohort(number=1), Cohort(number=2), Cohort(number=1)
    for cohort in (first, other, same):
        cohort.next()
    assert first.state.paths.seed == same.state.paths.seed != other.state.paths.seed
    before = first.state.paths.seed
    first.next()
    assert first.state.paths.seed == before


def _attacked(folder, **changes):
    trainer = poisoned("ALIE", "local4")
    inputs = {"epochs": 8, "validate_every": 100, "drifted_above": BOUND, **changes}
    return consortium(folder, 5, changes=inputs, make_local=lambda: local.create(trainer))


def test_a_site_a_little_to_one_side_is_named_in_a_run_and_a_broken_run_ends_as_an_unbroken_one(tmp_path):
    def restart(loop, client, iteration):
        if client == "remote" and iteration in (3, 9, 15):
            loop.restart(client)

    broken, whole = _attacked(tmp_path / "a"), _attacked(tmp_path / "b")
    assert broken.run(restart) == whole.run()
    lines = [json.loads(line) for line in (whole.folder("output", "remote") / "journal.jsonl").open()]
    done = [entry for entry in lines if entry["event"] == "round"]
    assert any(entry["skipped"].get("local4") == "drifted" for entry in done)
    assert all(set(entry["skipped"]) <= {"local4"} for entry in done)
    assert any(entry["by_site"]["local4"]["drift"] > BOUND for entry in done if "local4" in entry["by_site"])
    page = (whole.folder("output", "remote") / "index.html").read_text()
    assert "largest drift" in page and "to one side of the others" in page
