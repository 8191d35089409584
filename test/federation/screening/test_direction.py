"""Updates that point against the others': found over rounds, and never in honest noise."""

import json

import numpy as np
import pytest
from consortium import consortium
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.poison import poisoned
from computation import local
from computation.federation.screening import Bounds, State, direction, screen
from computation.settings import Settings
from computation.strategies import Contribution

BOUNDS = Bounds.of(Settings())
BOUND = Settings().opposed_above
SIZE = 4_000
PARTS = {"parameters": slice(0, SIZE)}


def _updates(draw, sites, signal):
    """Return honest updates of which two have a cosine of about `signal`, however the common direction turns."""
    common, own = draw.normal(size=SIZE), draw.normal(size=(sites, SIZE))
    return np.sqrt(signal) * common + np.sqrt(1 - signal) * own


def _run(rounds, change=lambda values: values, *, sites=4, signal=0.2, seed=0, bounds=BOUNDS):
    """Screen rounds of drawn updates; return the words for the last site, and all the others' together."""
    draw, state, told, honest = np.random.default_rng(seed), State(), [], set()
    names = "abcdefghij"[:sites]
    for number in range(rounds):
        values = _updates(draw, sites, signal)
        values[-1] = change(values)
        offers = [Contribution(*pair) for pair in _offers(names, number, values)]
        done = screen(offers, np.zeros(SIZE, np.float32), PARTS, state, bounds)
        state = State.from_json(json.loads(json.dumps(done.state.as_json())))
        told.append(done.refused.get(names[-1], ""))
        honest |= {site for site in done.refused if site != names[-1]}
    return told, honest


def _offers(names, number, values):
    for site, one in zip(names, values, strict=True):
        yield site, number, f"model {number}", 1.0, 0.5, one.astype(np.float32)


@pytest.mark.parametrize("sites", [3, 4, 5, 8])
@pytest.mark.parametrize("signal", [0.0, 0.1, 0.5, 0.9])
def test_honest_sites_are_left_alone_however_much_noise_there_is(sites, signal):
    told, honest = _run(150, lambda values: values[-1], sites=sites, signal=signal)
    assert not any(told) and not honest


@pytest.mark.parametrize("sites", [4, 5, 8])
def test_a_site_that_flips_is_left_out_and_in_the_end_excluded(sites):
    told, honest = _run(90, lambda values: -values[-1], sites=sites)
    assert not honest
    first = told.index("opposed")
    assert 10 < first < 70 and told[first:] == [*["opposed"] * 4, *["excluded"] * (90 - first - 4)]


@pytest.mark.parametrize("sites", [3, 4, 5, 8])
def test_a_site_that_offers_the_others_mean_turned_round_is_found_soon(sites):
    told, honest = _run(30, lambda values: -0.5 * values[:-1].mean(0), sites=sites)
    assert not honest and told.index("opposed") < 20


def test_at_the_end_of_a_training_everybody_points_against_everybody():
    """Where the mean is nothing, honest updates add up to nothing: of four, each two have a cosine of -1/3."""

    def centred(values):
        values -= values.mean(0)
        return values[-1]

    for sites in (3, 4, 5):
        assert _run(100, centred, sites=sites, signal=0.0) == ([""] * 100, set())


def test_a_site_that_turns_round_is_heard_again():
    draw, state, told = np.random.default_rng(0), State(), []
    bounds = Bounds.of(Settings(exclude_after=0))
    for number in range(120):
        values = _updates(draw, 4, 0.4)
        values[-1] *= -1 if number < 60 else 1
        done = screen(
            [Contribution(*pair) for pair in _offers("abcd", number, values)],
            np.zeros(SIZE, np.float32), PARTS, state, bounds,
        )  # fmt: skip
        state = done.state
        told.append(done.refused.get("d", ""))
    assert told[59] == "opposed" and told[-1] == ""


def test_no_bound_refuses_nobody_and_two_sites_are_no_majority():
    off = Bounds.of(Settings(opposed_above=0))
    assert not any(_run(60, lambda values: -values[-1], bounds=off)[0])
    assert not any(_run(60, lambda values: -values[0], sites=2)[0])


@settings(max_examples=50)
@given(st.integers(3, 9), st.integers(0, 10**6), st.floats(0.1, 10))
def test_a_minority_goes_at_most_and_an_account_is_bounded(sites, seed, before):
    draw = np.random.default_rng(seed)
    between = np.clip(draw.normal(0, 1, (sites, sites)), -1, 1)
    between = np.where(np.eye(sites, dtype=bool), 1, (between + between.T) / 2)
    names = "abcdefghij"[:sites]
    accounts, gone = direction.judge(names, {}, between.tolist(), dict.fromkeys(names, before), BOUND)
    assert len(gone) <= (sites - 1) // 2
    assert all(0 <= account <= 2 * BOUND for account in accounts.values())
    assert all(accounts[site] > BOUND for site in gone)


def test_who_is_out_already_judges_nobody():
    turned = [[1.0, 0.5, -1.0], [0.5, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    accounts, gone = direction.judge("abc", {"c"}, turned, {"a": 9.0, "c": 1.0}, BOUND)
    assert gone == () and accounts == {"a": 9.0, "c": 1.0}
    assert direction.along("abc", {"c"}, turned) == {"a": 0.5, "b": 0.5, "c": -1}


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_a_site_that_turns_the_mean_round_is_named_in_a_run(tmp_path, strategy):
    changes = {"epochs": 8, "validate_every": 100, "strategy": strategy}
    trainer = poisoned("inner product")
    loop = consortium(tmp_path, 4, changes=changes, make_local=lambda: local.create(trainer))
    loop.run()
    lines = [json.loads(line) for line in (loop.folder("output", "remote") / "journal.jsonl").open()]
    done = [entry for entry in lines if entry["event"] == "round"]
    assert any(entry["skipped"].get("local3") == "opposed" for entry in done)
    assert all(set(entry["skipped"]) <= {"local3"} for entry in done)
    assert done[0]["by_site"]["local3"]["cosine"] < 0 < done[0]["by_site"]["local0"]["cosine"]
    page = (loop.folder("output", "remote") / "index.html").read_text()
    assert "mean cosine to the others" in page and "pointed away from the others" in page
