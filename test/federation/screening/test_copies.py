"""Values that were there before: found by their bytes, and never where a site has a reason to offer them again."""

import json

import numpy as np
import pytest
from consortium import consortium

from benchmarks.poison import poisoned
from computation import local
from computation.federation.screening import Bounds, State, copies, screen
from computation.settings import Settings
from computation.strategies import Contribution

BOUNDS = Bounds.of(Settings())
PARTS = {"parameters": slice(0, 6), "statistics": slice(6, 8)}
DRAWS = np.random.default_rng(7).normal(1, 0.2, size=(40, 4, 8)).astype(np.float32)


def _round(number, state, *, model="", bounds=BOUNDS, **others):
    """Screen a round of four sites whose values are drawn, but for those that are given."""
    values = {site: DRAWS[number, place] for place, site in enumerate("abcd")} | others
    model = model or f"model {number}"
    offers = [Contribution(site, number, model, 1.0, 0.5, np.asarray(one)) for site, one in values.items()]
    return screen(offers, np.zeros(8, np.float32), PARTS, state, bounds)


def test_values_of_an_earlier_round_are_left_out_whoever_sent_them():
    state = State()
    for number in range(3):
        state = _round(number, state).state
    for stale in (DRAWS[0, 3], DRAWS[1, 0]):
        done = _round(4, state, d=stale)
        assert done.refused == {"d": "stale"} and done.findings["d"].scale == 0
        assert [one.site for one in done.kept] == ["a", "b", "c"]


def test_always_the_same_values_end_in_exclusion():
    state, told = State(), []
    for number in range(8):
        done = _round(number, state, d=DRAWS[0, 3])
        state = done.state
        told.append(done.refused.get("d", ""))
    assert told == ["", *["stale"] * 4, *["excluded"] * 3]


def test_on_the_same_model_the_same_values_are_honest():
    """After a void round a site that draws nothing has nothing else to offer."""
    state = _round(0, State(), model="m").state
    assert not _round(1, state, model="m", d=DRAWS[0, 3]).refused


def test_statistics_that_are_new_hide_no_old_gradient():
    state = _round(0, State()).state
    values = DRAWS[0, 3].copy()
    values[6:] += 1
    assert _round(1, state, d=values).refused == {"d": "stale"}


def test_twins_count_once_are_both_named_and_never_excluded_for_it():
    state = State()
    for number in range(8):
        done = _round(number, state, d=DRAWS[number, 1])
        state = done.state
        assert done.refused == {"d": "twin"} and done.twins == {"d": "b"}
        assert [one.site for one in done.kept] == ["a", "b", "c"]
    assert not state.excluded


def test_what_everybody_does_is_no_finding():
    same, state = {site: np.full(8, 1e-3, np.float32) for site in "abcd"}, State()
    for number in range(8):
        done = _round(number, state, **same)
        state = done.state
        assert not done.refused and len(done.kept) == 4


def test_an_update_of_nothing_is_left_out_where_two_others_moved():
    nothing = np.zeros(8, np.float32)
    assert _round(0, State(), d=nothing).refused == {"d": "empty"}
    assert not _round(0, State(), a=nothing, b=nothing, c=nothing, d=nothing).refused
    few = [Contribution(site, 1, "m", 1.0, 0.5, values) for site, values in (("a", DRAWS[0, 0]), ("b", nothing))]
    assert not screen(few, nothing, PARTS, State(), BOUNDS).refused


def test_an_owner_may_let_copies_count():
    state, off = State(), Bounds.of(Settings(copies="count"))
    for number in range(8):
        done = _round(number, state, bounds=off, c=DRAWS[0, 3] * 0, d=DRAWS[0, 3])
        state = done.state
        assert not done.refused
    assert not state.marks


def test_marks_are_bounded_and_survive_a_restart():
    state = State()
    for number in range(30):
        state = _round(number, State.from_json(json.loads(json.dumps(state.as_json())))).state
    assert {len(marks) for marks in state.marks.values()} == {16}
    assert not copies.found({"a": ("m", "new")}, {"a": 1.0}, state.marks)


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
@pytest.mark.parametrize(("attack", "reason"), [("zeros", "empty"), ("stale", "stale"), ("mimic", "twin")])
def test_a_copying_site_is_named_in_a_run(tmp_path, strategy, attack, reason):
    changes = {"epochs": 4, "validate_every": 100, "strategy": strategy}
    trainer = poisoned(attack)
    loop = consortium(tmp_path, 4, changes=changes, make_local=lambda: local.create(trainer))
    final = loop.run()
    lines = [json.loads(line) for line in (loop.folder("output", "remote") / "journal.jsonl").open()]
    told = [entry["skipped"].get("local3", "") for entry in lines if entry["event"] == "round"]
    assert reason in told and set(told) <= {"", reason, "excluded"}
    assert all(set(entry["skipped"]) <= {"local3"} for entry in lines if entry["event"] == "round")
    assert len({site["model_digest"] for site in final["sites"].values()}) == 1
    assert any(entry.get("reason") == reason for entry in lines if entry["event"] == "screened")
