"""Values that were there before: found by their bytes, and never where a site has a reason to offer them again."""

import json

import numpy as np
import pytest
from consortium import consortium

from benchmarks.poison import poisoned
from computation import local
from computation.federation.screening import Bounds, State, copies, measuring, screen
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


def test_twins_count_once_from_the_eighth_round_on_and_are_never_excluded_for_it():
    state, told = State(), []
    for number in range(20):
        done = _round(number, state, d=DRAWS[number, 1])
        state = done.state
        told.append(done.refused.get("d", ""))
        assert done.twins == {"d": "b"}
        assert [one.site for one in done.kept] == ["a", "b", "c", "d"][: 3 if number >= 7 else 4]
    assert told == [*[""] * 7, *["twin"] * 13] and not state.excluded


def test_a_chance_twin_now_and_then_counts():
    """Two sub-volumes without a head in them have the same gradient."""
    state = State()
    for number in range(39):
        values = DRAWS[number, 1 if number % 8 else 3]
        state = (done := _round(number, state, d=values)).state
        assert not done.refused


@pytest.mark.parametrize("factor", [1.0, 0.3, -1.0])
def test_a_copy_of_another_size_is_a_copy_and_one_turned_round_is_none(factor):
    done = _round(1, State(), d=DRAWS[1, 1] * np.float32(factor))
    assert done.twins == ({"d": "b"} if factor > 0 else {})


def test_a_copy_with_noise_of_a_hundredth_is_a_copy():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(4, 5_000))
    values[3] = values[0] + 0.01 * draw.normal(size=5_000)
    between = measuring.cosines(measuring.products(values, np.zeros(5_000)))
    assert copies.twins("abcd", between) == {"d": "a"}
    values[2] = 2 * values[3]
    between = measuring.cosines(measuring.products(values, np.zeros(5_000)))
    assert copies.twins("abcd", between) == {"c": "a", "d": "a"}


def test_what_everybody_does_is_no_finding():
    same, state = {site: np.full(8, 1e-3, np.float32) for site in "abcd"}, State()
    for number in range(8):
        done = _round(number, state, **same)
        state = done.state
        assert not done.refused and len(done.kept) == 4


def test_updates_of_nothing_are_left_out_where_two_others_moved():
    nothing, state, told = np.zeros(8, np.float32), State(), []
    for number in range(14):
        done = _round(number, state, d=nothing)
        state = done.state
        told.append(done.refused.get("d", ""))
    assert told == [*[""] * 7, *["empty"] * 4, *["excluded"] * 3]
    for number in range(14):
        state = (done := _round(number, state, a=nothing, b=nothing, c=nothing)).state
        assert set(done.refused) <= {"d"}


def test_of_two_sites_neither_is_the_odd_one():
    nothing, state = np.zeros(8, np.float32), State()
    for number in range(20):
        pairs = (("a", DRAWS[number, 0]), ("b", nothing))
        few = [Contribution(site, number, f"m{number}", 1.0, 0.5, values) for site, values in pairs]
        state = (done := screen(few, nothing, PARTS, state, BOUNDS)).state
        assert not done.refused


def test_an_owner_may_let_copies_count():
    state, off = State(), Bounds.of(Settings(copies="count", drifted_above=0))
    for number in range(8):
        done = _round(number, state, bounds=off, c=DRAWS[0, 3] * 0, d=DRAWS[0, 3])
        state = done.state
        assert not done.refused
    assert not state.marks


def test_the_sign_of_a_zero_and_no_more_is_the_same_value():
    values = np.linspace(-1, 1, 100_001).astype(np.float32)
    marks = copies.marked([_one(values)], slice(None))
    assert values[50_000] == 0 and copies.marked([_one(_signed(values))], slice(None)) == marks
    for place in (0, 32_768, 100_000):
        other = values.copy()
        other[place] += 1e-7
        assert copies.marked([_one(other)], slice(None)) != marks


def _signed(values):
    return np.where(values == 0, np.float32(-0.0), values)


def _one(values):
    return Contribution("a", 1, "m", 1.0, 0.5, values)


def test_marks_are_bounded_and_survive_a_restart():
    state = State()
    for number in range(30):
        state = _round(number, State.from_json(json.loads(json.dumps(state.as_json())))).state
    assert {len(marks) for marks in state.marks.values()} == {16}
    assert not copies.found({"a": ("m", "new")}, {"a": 1.0}, state.marks, {})


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
@pytest.mark.parametrize(("attack", "reason"), [("zeros", "empty"), ("stale", "stale"), ("mimic", "twin")])
def test_a_copying_site_is_named_in_a_run(tmp_path, strategy, attack, reason):
    changes = {"epochs": 6, "validate_every": 100, "strategy": strategy}
    trainer = poisoned(attack)
    loop = consortium(tmp_path, 4, changes=changes, make_local=lambda: local.create(trainer))
    final = loop.run()
    lines = [json.loads(line) for line in (loop.folder("output", "remote") / "journal.jsonl").open()]
    told = [entry["skipped"].get("local3", "") for entry in lines if entry["event"] == "round"]
    assert reason in told and set(told) <= {"", reason, "excluded"}
    assert all(set(entry["skipped"]) <= {"local3"} for entry in lines if entry["event"] == "round")
    assert len({site["model_digest"] for site in final["sites"].values()}) == 1
    assert any(entry.get("reason") == reason for entry in lines if entry["event"] == "screened")
