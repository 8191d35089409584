"""Updates that come one by one: all of a round together are judged as the round is, and each of them once."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.federation.screening import Arrivals, Bounds, State, screen
from computation.settings import Settings
from computation.strategies import Contribution

#: Of updates that come one by one no drift is judged.
BOUNDS = Bounds.of(Settings(drifted_above=0))
PARTS = {"parameters": slice(0, 6), "statistics": slice(6, 8)}
NAMES = "abcde"


def offers(draw, number, **changed):
    """Return a round's contributions, of a common direction and as much noise."""
    values = {name: 1 + draw.normal(size=8) for name in NAMES} | changed
    return [Contribution(name, number, str(number), 1.0, 0.0, np.asarray(one)) for name, one in values.items()]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), attack=st.sampled_from(["none", "large", "turned", "nothing", "same", "twin"]))
def test_a_round_in_any_order_is_judged_as_a_round(seed, attack):
    draw, origin = np.random.default_rng(seed), np.zeros(8)
    state, arrivals = State(), Arrivals(PARTS, BOUNDS, State())
    for number in range(30):
        those = offers(draw, number)
        changed = {
            "none": those[3].values,
            "large": 50 * those[3].values,
            "turned": -those[3].values,
            "nothing": np.zeros(8),
            "same": np.ones(8),
            "twin": 2 * those[1].values,
        }[attack]
        those[3] = Contribution("d", number, str(number), 1.0, 0.0, changed)
        expected = screen(those, origin, PARTS, state, BOUNDS)
        state = expected.state
        for index in draw.permutation(5):
            arrivals.add(those[index], origin)
        found = arrivals.judge()
        assert dict(found.refused) == dict(expected.refused)
        assert {one.site: one.values.tolist() for one in found.kept} == {
            one.site: one.values.tolist() for one in expected.kept
        }
        assert {*found.findings} == {*expected.findings}
        for site, finding in found.findings.items():
            assert finding.scale == expected.findings[site].scale
            assert finding.multiple == pytest.approx(expected.findings[site].multiple)
        assert arrivals.state.excluded == state.excluded


def test_what_has_been_judged_is_judged_no_more_and_others_stay_as_they_were():
    draw, arrivals = np.random.default_rng(1), Arrivals(PARTS, BOUNDS, State())
    those = offers(draw, 0)
    for one in those:
        arrivals.add(one, np.zeros(8))
    before = arrivals.judge().state
    arrivals.add(those[0], np.zeros(8))
    assert not arrivals.judge().findings and arrivals.state == before
    arrivals.add(Contribution("a", 1, "1", 1.0, 0.0, 1 + draw.normal(size=8)), np.zeros(8))
    done = arrivals.judge()
    assert {*done.findings} == {"a"} and not done.refused
    for name in "bcde":
        assert done.state.opposed[name] == before.opposed[name]
        assert done.state.pasts["parameters"][name] == before.pasts["parameters"][name]
    assert State.from_json(json.loads(json.dumps(done.state.as_json()))) == done.state


def test_each_is_measured_from_where_it_began_and_in_units_of_its_rate():
    draw, arrivals = np.random.default_rng(2), Arrivals(PARTS, BOUNDS, State())
    for number, name in enumerate(NAMES):
        origin, rate = 100 * draw.normal(size=8), 10.0**-number
        values = origin + rate * (1 + 0.3 * draw.normal(size=8))
        arrivals.add(Contribution(name, 1, "1", 1.0, 0.0, values), origin, rate)
    done = arrivals.judge()
    assert not done.refused and max(one.multiple for one in done.findings.values()) < 3


def test_a_later_one_alone_is_held_against_the_others_newest():
    draw, arrivals = np.random.default_rng(3), Arrivals(PARTS, BOUNDS, State())
    for one in offers(draw, 0):
        arrivals.add(one, np.zeros(8))
    arrivals.judge()
    arrivals.add(Contribution("c", 1, "1", 1.0, 0.0, np.full(8, 1e3)), np.zeros(8))
    assert arrivals.judge().refused == {"c": "outlier"}
    # What was left out is no measure of the next.
    arrivals.add(Contribution("d", 1, "1", 1.0, 0.0, np.full(8, 1e3)), np.zeros(8))
    assert arrivals.judge().refused == {"d": "outlier"}
    for number in range(2, 9):
        arrivals.add(Contribution("c", number, str(number), 1.0, 0.0, np.full(8, 1e3 + number)), np.zeros(8))
        refused = arrivals.judge().refused
    assert refused == {"c": "excluded"} and arrivals.state.excluded == ("c",)
