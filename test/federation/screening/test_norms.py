"""Finite poison: what is clipped and left out, who is named, and that nobody honest ever is."""

import csv
import json
import math
from dataclasses import asdict, replace
from statistics import median, median_high

import numpy as np
import pytest
from consortium import consortium
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.poison import poisoned
from computation import local
from computation.errors import MessageError, QuorumError
from computation.federation.screening import Bounds, Finding, Past, State, screen
from computation.federation.screening.measuring import norms as lengths
from computation.federation.screening.measuring import products
from computation.federation.screening.norms import judge
from computation.settings import Settings
from computation.strategies import Contribution
from computation.wire.messages import FINDINGS, RoundOffer

#: The product's, but for copies and drift: most of these updates differ in nothing but size, and in that always.
BOUNDS = replace(Bounds.of(Settings()), copies=False, drifted=0)
#: Three rounds in which everybody does the usual: then every site has a past.
USUAL = [dict.fromkeys("abcd", 1.0)] * 3
NAMES = "abcdefgh"
PARTS = {"parameters": slice(0, 4), "statistics": slice(4, 6)}
HONEST = st.lists(st.floats(1.0, 3.0), min_size=2, max_size=7)


def _contribution(site, values):
    return Contribution(site, 1, "m", 1.0, 0.5, np.array(values, np.float32))


def _rounds(table, bounds=BOUNDS, state=None):
    """Screen rounds of gradients of the given norms and one direction, and return what came of each."""
    state, done = state or State(), []
    for norms in table:
        offers = [_contribution(site, [norm, 0, 0, 0]) for site, norm in norms.items()]
        done.append(screen(offers, np.zeros(4, np.float32), {"parameters": slice(0, 4)}, state, bounds))
        state = done[-1].state
    return done


SIZES = st.floats(0, 1e12) | st.sampled_from([0.0, 1.0, 2.0, math.inf])
PASTS = st.builds(
    Past,
    st.lists(st.floats(0, 1e9), max_size=15).map(tuple),
    st.lists(st.floats(1e-30, 1e12) | st.sampled_from([1.0, 2.0]), max_size=3).map(tuple),
)


def _by_definition(site, norms, pasts, bounds, least):
    """Return what is made of one update as the module's text says it, with the library's medians of the others."""
    others, own = [other for other in {*norms, *pasts} if other != site], pasts.get(site, Past())
    now = [norms[other] for other in others if norms.get(other, 0) > 0]
    late = [norm for other in others for norm in pasts.get(other, Past()).norms]
    measure = max(median_high(now) if now else 0.0, median(late) if late else 0.0)
    if len(others) < 2:
        measure = max(measure, median(own.norms) if own.norms else 0.0)
    measure = max(measure, least) if others else 0.0
    if not measure > 0:
        return Finding()
    multiple, known = norms[site] / measure, len(own.norms) >= 3
    multiple = multiple if multiple <= 1e9 else 1e9
    habit = sorted((*own.multiples, multiple), reverse=True)[: 3 if known else 1][-1]
    far = 0 < bounds.refuse < multiple and (len(others) >= 2 or known)
    often = 0 < bounds.suspect < habit and multiple > bounds.suspect / 2 and len(others) >= 2
    if far or often:
        return Finding(multiple, 0.0)
    return Finding(multiple, bounds.clip * measure / norms[site]) if 0 < bounds.clip < multiple else Finding(multiple)


@given(
    norms=st.dictionaries(st.sampled_from(NAMES), SIZES, min_size=1),
    pasts=st.dictionaries(st.sampled_from(NAMES), PASTS),
    bounds=st.builds(Bounds, *[st.sampled_from([0.0, 1.5, 6.0])] * 3, st.just(5)),
    least=st.sampled_from([0.0, 0.5]),
)
def test_each_is_judged_as_by_the_definition_to_the_bit(norms, pasts, bounds, least):
    found = judge(norms, pasts, bounds, least)
    # As text, which has every bit: what is infinite times what is infinite is no number, and equals nothing.
    assert repr(found) == repr({site: _by_definition(site, norms, pasts, bounds, least) for site in norms})


@given(honest=HONEST, factor=st.floats(100, 1e30))
def test_one_that_is_far_larger_is_left_out_and_nobody_else_is(honest, factor):
    norms = {**dict(zip(NAMES, honest, strict=False)), "z": 3 * factor}
    found = judge(norms, {}, BOUNDS)
    assert found["z"].scale == 0
    assert all(found[site].scale == 1 for site in norms if site != "z")


@given(honest=HONEST, small=st.floats(0, 1e-6))
def test_one_that_is_far_smaller_gets_nobody_into_trouble(honest, small):
    norms = {**dict(zip(NAMES, honest, strict=False)), "z": small}
    assert all(finding.scale == 1 for finding in judge(norms, {}, BOUNDS).values())


@given(st.lists(st.lists(st.floats(0.5, 3.0), min_size=4, max_size=4), min_size=1, max_size=30))
def test_sites_that_differ_sixfold_are_never_touched(table):
    for done in _rounds([dict(zip("abcd", norms, strict=True)) for norms in table]):
        assert [one.site for one in done.kept] == list("abcd") and not done.refused
        assert {finding.scale for finding in done.findings.values()} == {1.0}


def test_norms_that_fall_by_orders_of_magnitude_are_no_finding():
    table = [dict.fromkeys("abcd", 10.0**-place) for place in range(8)]
    assert all(finding.scale == 1 for done in _rounds([*table, *table[::-1]]) for finding in done.findings.values())


def test_an_update_between_the_bounds_is_clipped_to_the_bound():
    *_, done = _rounds([*USUAL, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 20.0}])
    assert done.findings["d"] == Finding(20.0, 0.6, 1.0)
    values = {one.site: one.values for one in done.kept}
    np.testing.assert_array_equal(values["d"], np.array([12, 0, 0, 0], np.float32))
    np.testing.assert_array_equal(values["a"], np.array([1, 0, 0, 0], np.float32))


def test_a_habit_is_found_on_the_third_time_and_ends_in_exclusion():
    done = _rounds([*USUAL, *[{"a": 1.0, "b": 1.0, "c": 1.0, "d": 10.0}] * 9])[3:]
    assert [one.refused.get("d", "") for one in done] == ["", "", *["outlier"] * 4, *["excluded"] * 3]
    assert [len(one.kept) for one in done] == [4, 4, *[3] * 7]
    assert done[-1].state.excluded == ("d",)


def test_of_a_stranger_once_is_enough():
    done = _rounds([{"a": 1.0, "b": 1.0, "c": 1.0, "d": 10.0}] * 6)
    assert [one.refused["d"] for one in done] == [*["outlier"] * 4, *["excluded"] * 2]
    late = [dict.fromkeys("abc", 1.0)] * 9
    assert _rounds([*late, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 10.0}])[-1].refused == {"d": "outlier"}
    assert not _rounds([*late, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 5.0}])[-1].refused


def test_a_site_that_is_large_twice_and_then_ordinary_counts():
    large, ordinary = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 10.0}, dict.fromkeys("abcd", 1.0)
    done = _rounds([*USUAL, large, ordinary, large, ordinary, large, ordinary, ordinary])[3:]
    assert [one.findings["d"].scale for one in done] == [1, 1, 1, 1, 0, 1, 1]
    assert done[-1].state.refused["d"] == 0


def test_a_refused_update_is_no_measure_of_the_next():
    done = _rounds([{"a": 1.0, "b": 1.0, "c": 1e6, "d": 1e6}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1e6}])
    assert done[1].refused == {"d": "outlier"}


def test_with_two_sites_a_past_refuses_and_without_one_the_larger_is_clipped():
    (first,) = _rounds([{"a": 1.0, "b": 1000.0}])
    assert first.findings["b"] == Finding(1000.0, 12 / 1000, 1.0) and not first.refused
    usual = [{"a": 1.0, "b": 1.0}] * 3
    *_, large = _rounds([*usual, {"a": 1.0, "b": 1000.0}])
    assert large.refused == {"b": "outlier"} and large.findings["a"].scale == 1
    *_, small = _rounds([*usual, {"a": 1e-9, "b": 1.0}])
    assert not small.refused and small.findings["b"].scale == 1


def test_a_site_alone_is_held_against_nothing():
    assert all(one.findings["a"] == Finding() for one in _rounds([{"a": 1.0}, {"a": 1e6}, {"a": 1.0}]))


def test_two_sites_left_of_four_are_held_against_what_all_four_did():
    assert _rounds([*USUAL, {"a": 1.0, "b": 1000.0}])[-1].refused == {"b": "outlier"}


def test_what_an_excluded_site_once_did_is_no_measure():
    """Of three sites one is out: the two that are left are no majority, whatever the third one did before."""
    usual, large = dict.fromkeys("abc", 1.0), {"a": 1.0, "b": 1.0, "c": 1e6}
    done = _rounds([*[usual] * 3, *[large] * 5, {"a": 1.0, "b": 1.0, "c": 1.0}])
    assert done[-1].refused == {"c": "excluded"} and len(done[-1].kept) == 2
    assert set(done[-1].state.pasts["parameters"]) == {"a", "b"}


def test_statistics_are_judged_by_what_they_moved_by():
    origin = np.array([0, 0, 0, 0, 5, 5], np.float32)
    offers, state = [_contribution(site, [1, 0, 0, 0, 5, 5.1]) for site in "abcd"], State()
    for _ in range(3):
        state = screen(offers, origin, PARTS, state, BOUNDS).state
    offers[-1] = _contribution("d", [1, 0, 0, 0, 5, 7])
    done = screen(offers, origin, PARTS, state, BOUNDS)
    moved = done.kept[-1].values
    assert done.findings["d"].multiple == pytest.approx(20, rel=1e-5)
    np.testing.assert_allclose(moved, [1, 0, 0, 0, 5, 6.2], rtol=1e-6)
    offers[-1] = _contribution("d", [1, 0, 0, 0, 5, 105])
    assert screen(offers, origin, PARTS, state, BOUNDS).refused == {"d": "outlier"}


def test_bounds_of_nothing_screen_nothing():
    off = Bounds(0, 0, 0, 0)
    assert all(not one.refused and len(one.kept) == 2 for one in _rounds([{"a": 1.0, "b": 1e30}] * 20, off))


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=1, max_size=20)
)
def test_norms_are_float64(values):
    vector = np.array(values, np.float32)
    (norm,) = lengths(products([vector], np.zeros_like(vector)))
    assert norm == pytest.approx(math.hypot(*map(float, values)), rel=1e-12)


def test_a_norm_beyond_float64_is_infinite_and_refused():
    assert lengths(products([np.full(3, 1e200)], np.zeros(3))) == [math.inf]
    found = judge({"a": 1.0, "b": 1.0, "c": math.inf}, {}, BOUNDS)
    assert found["c"].scale == 0 and math.isfinite(found["c"].multiple) and found["a"].scale == 1


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 8.0, 20.0, 1e5, 3e38]), min_size=4, max_size=4), max_size=24))
def test_a_restart_changes_nothing_and_pasts_are_bounded(table):
    table = [dict(zip("abcd", norms, strict=True)) for norms in table]
    whole, state = _rounds(table), State()
    for norms, wanted in zip(table, whole, strict=True):
        (one,) = _rounds([norms], state=state)
        assert (one.refused, one.findings, one.state) == (wanted.refused, wanted.findings, wanted.state)
        state = State.from_json(json.loads(json.dumps(one.state.as_json(), allow_nan=False)))
        assert state == one.state
    for past in state.pasts.get("parameters", {}).values():
        assert len(past.multiples) <= 16 and len(past.norms) <= 3
    assert Past() == Past((), ())


def _attacked(tmp_path, attack, **changes):
    """Return a consortium of four in which local3 attacks; the attacks of one round are in round 10."""
    trainer = poisoned(attack)
    wanted = {"epochs": 6, "validate_every": 100, **changes}
    return consortium(tmp_path, 4, changes=wanted, make_local=lambda: local.create(trainer))


def _entries(loop, client):
    return [json.loads(line) for line in (loop.folder("output", client) / "journal.jsonl").open()]


def _done(loop, client="remote"):
    return [entry for entry in _entries(loop, client) if entry["event"] == "round"]


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_a_thousandfold_site_is_named_everywhere_told_and_out(tmp_path, strategy):
    loop = _attacked(tmp_path, "x1000", strategy=strategy)
    final = loop.run()
    reasons = [entry["skipped"].get("local3", "") for entry in _done(loop)]
    assert reasons == [*["outlier"] * 4, *["excluded"] * 8]
    assert all(set(entry["skipped"]) == {"local3"} and not entry["clipped"] for entry in _done(loop))
    # It stays, and holds the model that the others made.
    assert len({site["model_digest"] for site in final["sites"].values()}) == 1
    assert final["sites"]["local3"]["rounds_counted"] == 0
    told = [entry["text"] for entry in _entries(loop, "local3") if entry.get("kind") == "refused"]
    assert len(told) == 12 and "was many times larger than the others'" in told[0] and "out for the rest" in told[-1]
    assert [entry["round"] for entry in _entries(loop, "remote") if entry.get("kind") == "excluded"] == [5]
    assert _done(loop)[0]["by_site"]["local3"]["multiple"] > 100
    assert "outlier" not in json.dumps(_done(loop)[-1]["by_site"]["local0"])
    page = (loop.folder("output", "remote") / "index.html").read_text()
    assert "local3 did not count: its update was many times larger" in page
    with (loop.folder("output", "local0") / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["skipped"] == "local3: outlier" and rows[-1]["skipped"] == "local3: excluded"
    assert "local3: outlier" in (loop.folder("output", "remote") / "run.log").read_text()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_one_thousandfold_round_moves_neither_model_nor_moments(tmp_path, optimizer):
    """The run ends as one in which the site sat that round out, to the bit."""
    changes = {"optimizer": optimizer}

    class Absent(poisoned("none")):
        def gradient(self, round):
            if (self.site, round) == ("local3", 10):
                raise MemoryError
            return super().gradient(round)

    poison = _attacked(tmp_path / "a", "x1000 once", **changes)
    digest = poison.run()["model_digest"]
    assert [entry["round"] for entry in _done(poison) if entry["skipped"]] == [10]
    sound = {"epochs": 6, "validate_every": 100, **changes}
    quiet = consortium(tmp_path / "b", 4, changes=sound, make_local=lambda: local.create(Absent))
    assert quiet.run()["model_digest"] == digest


def test_a_clipped_update_counts_and_is_told(tmp_path):
    loop = _attacked(tmp_path, "x1000 once", refuse_above=0)
    loop.run()
    entry = _done(loop)[9]
    assert entry["clipped"] == ["local3"] and len(entry["counted"]) == 4
    assert 0 < entry["by_site"]["local3"]["scale"] < 0.1
    assert any(entry.get("kind") == "clipped" for entry in _entries(loop, "local3"))
    assert not any(entry.get("kind") == "clipped" for entry in _entries(loop, "local0"))
    said = [entry["text"] for entry in _entries(loop, "remote") if entry.get("kind") == "clipped"]
    assert said == ["an update of local3 was scaled down: it was many times larger than the others'"]
    assert "local3: clipped" in (loop.folder("output", "remote") / "run.log").read_text()


def test_restarted_at_any_round_the_same_sites_are_out(tmp_path):
    def restart(loop, client, iteration):
        if client == "remote" and iteration in (3, 5, 7, 9):
            loop.restart(client)

    broken, whole = _attacked(tmp_path / "a", "flip x10"), _attacked(tmp_path / "b", "flip x10")
    assert broken.run(restart) == whole.run()
    assert [entry["skipped"] for entry in _done(broken)] == [entry["skipped"] for entry in _done(whole)]
    assert _done(whole)[-1]["skipped"] == {"local3": "excluded"}


def test_the_quorum_counts_who_is_left(tmp_path):
    with pytest.raises(QuorumError, match=r"fewer than 4 of 4 sites contributed \(local3: outlier\)"):
        _attacked(tmp_path, "x1000", quorum=1).run()


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_honest_sites_of_unequal_size_are_left_alone(tmp_path, strategy, norm):
    changes = {"epochs": 6, "validate_every": 100, "strategy": strategy, "norm": norm, "local_steps": 2}
    loop = consortium(tmp_path, 4, changes=changes, scans=[(1, 1, 0), (2, 1, 0), (4, 1, 0), (6, 1, 0)])
    loop.run()
    done = _done(loop)
    assert done and not any(entry["skipped"] or entry["clipped"] for entry in done)
    assert all(numbers["scale"] == 1 and numbers["multiple"] > 0 for e in done for numbers in e["by_site"].values())


def test_no_site_may_say_of_itself_what_only_the_centre_finds():
    for reason in FINDINGS:
        offer = RoundOffer(1, "skipped", reason, 0, 0.0, "ab" * 32)
        with pytest.raises(MessageError):
            RoundOffer.parse(offer.as_json())
    assert asdict(Finding()) == {"multiple": 0.0, "scale": 1.0, "cosine": 0.0, "drift": 0.0}
