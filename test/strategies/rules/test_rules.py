"""Rules that withstand false contributions: another library's numbers, closed forms, and laws."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import ContributionError, SettingsError
from computation.settings import RULES, Settings, parse
from computation.strategies import Contribution, GradientMean, Ground, average, named
from computation.strategies.rules import Rule
from computation.strategies.rules.centred_clipping import clipped
from computation.strategies.rules.krum import scores
from computation.strategies.rules.neighbours import mixing
from computation.strategies.rules.updates import Updates

ORACLE = json.loads((Path(__file__).parents[1] / "oracles" / "byzfl.json").read_text())["cases"]
ROBUST = [name for name in RULES if name != "mean"]
#: Every way to combine that is not the weighted mean.
WAYS = [("mean", False, True), *((name, mixes, clips) for name in ROBUST for mixes in (0, 1) for clips in (0, 1))]
#: Where mixing makes equals of some, the last bit decides for which of them Krum speaks.
DECIDED = [way for way in WAYS if not ("krum" in way[0] and way[1])]
DTYPES = ["float32", "float64"]

#: Each law is tried in thirteen ways.
few = trying(max_examples=15)
FALSE = st.integers(0, 3)
SIZES = st.integers(1, 12)


def _rule(way, byzantine=1):
    name, mixes, clips = way
    return Rule(name, byzantine, mixes, clips)


@st.composite
def crowds(draw, reach=100.0):
    """Return `f`, honest vectors and as many false ones as `f`, enough for every rule."""
    false = draw(FALSE)
    honest = draw(st.integers(2 * false + 3 - false, 2 * false + 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(SIZES)
    near = rng.normal(draw(st.floats(-10, 10)), draw(st.sampled_from([1e-6, 1.0, 10.0])), (honest, size))
    far = draw(hnp.arrays(np.float64, (false, size), elements=st.floats(-reach, reach)))
    return false, near, far


@pytest.mark.parametrize("case", ORACLE, ids=lambda case: f"{len(case['vectors'])} of which {case['byzantine']}")
def test_equal_to_another_library(case):
    vectors, false = np.array(case["vectors"]), case["byzantine"]

    def made(name, **how):
        return Rule(name, false, **how).combine(list(vectors))

    np.testing.assert_allclose(made("median"), case["median"], rtol=1e-12)
    np.testing.assert_allclose(made("trimmed-mean"), case["trimmed-mean"], rtol=1e-12)
    np.testing.assert_allclose(made("geometric-median"), case["geometric-median"], rtol=1e-5)
    np.testing.assert_allclose(made("trimmed-mean", mixes=True), case["mixed trimmed-mean"], rtol=1e-12)
    np.testing.assert_allclose(made("mean", clips=True), np.mean(case["clipped"], axis=0), rtol=1e-12)
    updates = Updates(vectors)
    np.testing.assert_allclose(mixing(updates.cloud(), false) @ vectors, case["mixed"], rtol=1e-12)
    weights = clipped(updates.cloud(), np.zeros(len(vectors)), case["centred-clipping"]["radius"], 3)
    result = np.empty(vectors.shape[1])
    updates.weigh(weights, result)
    np.testing.assert_allclose(result, case["centred-clipping"]["value"], rtol=1e-9)
    if case["krum"]:
        np.testing.assert_array_equal(made("krum"), case["krum"])
    if len(vectors) % 2:  # of an even number their radius is the mean of the two in the middle
        np.testing.assert_allclose(made("centred-clipping"), case["centred-clipping"]["value"], rtol=1e-9)


@given(crowds())
def test_krum_and_multi_krum_are_what_brute_force_finds(crowd):
    false, honest, far = crowd
    vectors = np.vstack([far, honest])
    count = len(vectors)
    squares = [sorted(float(((one - other) ** 2).sum()) for other in vectors)[1:] for one in vectors]
    wanted = [sum(near[: count - false - 2]) for near in squares]
    found = scores(Updates(vectors).cloud(), false)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12 * (1 + np.abs(vectors).max()) ** 2)
    np.testing.assert_array_equal(Rule("krum", false).combine(list(vectors)), vectors[np.argmin(found)])
    best = sorted(range(count), key=lambda i: found[i])[: count - false]
    multi = Rule("multi-krum", false).combine(list(vectors))
    np.testing.assert_allclose(multi, vectors[best].mean(axis=0), rtol=1e-9, atol=1e-9 * np.abs(vectors).max())


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
@few
@given(crowd=crowds(reach=1e9))
def test_false_vectors_move_the_result_no_farther_than_honest_ones_lie_apart(way, crowd):
    false, honest, far = crowd
    vectors = np.vstack([far, honest])
    apart = max(np.linalg.norm(one - other) for one in honest for other in honest)
    origin = honest.mean(axis=0)
    result = _rule(way, false).combine(list(vectors), origin)
    count = len(vectors)
    allowed = 4 * np.sqrt(honest.shape[1]) * (count - false) / (count - 2 * false) * apart
    assert min(np.linalg.norm(result - one) for one in honest) <= allowed + 1e-9 * (1 + np.abs(honest).max())


@given(crowds(reach=1e30))
def test_the_coordinate_wise_stay_among_the_honest_values(crowd):
    false, honest, far = crowd
    for name in ("median", "trimmed-mean"):
        result = Rule(name, false).combine([*far, *honest])
        slack = 1e-12 * np.abs(honest).max()
        assert (honest.min(axis=0) - slack <= result).all() and (result <= honest.max(axis=0) + slack).all()


@pytest.mark.parametrize("way", DECIDED, ids=str)
@few
@given(
    false=FALSE,
    size=SIZES,
    seed=st.integers(0, 2**32),
    away=st.floats(-100, 100),
    factor=st.sampled_from([2.0**-9, -1.0, 4096.0, 3.0]),
)
def test_it_moves_and_scales_and_turns_with_what_comes_in(way, false, size, seed, away, factor):
    """Of random vectors, of which no two are equally near: then the last bit would decide."""
    rng, rule = np.random.default_rng(seed), _rule(way, false)
    vectors = rng.normal(3, 1, (2 * false + 5, size))
    vectors[:false] = rng.normal(0, 50, (false, size))
    origin, order = rng.normal(size=size), rng.permutation(len(vectors))
    result = rule.combine(list(vectors), origin)
    moved = rule.combine(list(vectors + away), origin + away)
    np.testing.assert_allclose(moved, result + away, atol=1e-7 * (1 + abs(away)))
    scaled = rule.combine(list(vectors * factor), origin * factor)
    np.testing.assert_allclose(scaled, result * factor, atol=1e-7 * abs(factor))
    np.testing.assert_allclose(rule.combine(list(vectors[order]), origin), result, atol=1e-7)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(size=st.integers(0, 40), count=st.integers(5, 9), seed=st.integers(0, 2**32))
def test_equals_come_to_themselves(way, dtype, size, count, seed):
    one = np.random.default_rng(seed).normal(0, 1e3, size).astype(dtype)
    result = _rule(way).combine([one] * count, one)
    assert result.dtype == one.dtype
    np.testing.assert_allclose(result, one, rtol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("way", [way for way in WAYS if way[0] in ("mean", "trimmed-mean", "multi-krum")], ids=str)
@few
@given(crowd=crowds())
def test_with_nobody_false_it_is_the_mean_of_equal_voices(way, crowd):
    _, honest, _ = crowd
    result = _rule(way, 0).combine(list(honest))
    np.testing.assert_allclose(result, honest.mean(axis=0), rtol=1e-9, atol=1e-9)


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=3, unique=True))
def test_of_three_on_a_line_the_geometric_median_is_the_middle_one(places):
    result = Rule("geometric-median").combine([np.array([float(place)]) for place in places])
    apart = max(places) - min(places)
    assert result == pytest.approx([sorted(places)[1]], abs=1e-5 * apart)


def test_the_geometric_median_of_a_cross_is_where_its_diagonals_meet():
    corners = [np.array(corner) for corner in [(0.0, 0.0), (4.0, 4.0), (0.0, 4.0), (9.0, -5.0)]]
    assert Rule("geometric-median").combine(corners) == pytest.approx([2, 2], abs=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_blocks_and_parts_do_not_show(way, monkeypatch):
    rng = np.random.default_rng(3)
    vectors = [rng.normal(size=1_003).astype(np.float32) for _ in range(7)]
    whole = _rule(way).combine(vectors)
    parts = _rule(way).combine(vectors, parts={"a": slice(0, 600), "b": slice(600, 1_003)})
    monkeypatch.setattr("computation.strategies.rules.updates._BLOCK", 100 * 7)
    np.testing.assert_allclose(_rule(way).combine(vectors), whole, rtol=1e-6)
    apart = [_rule(way).combine([vector[where] for vector in vectors]) for where in (slice(0, 600), slice(600, None))]
    np.testing.assert_allclose(parts, np.concatenate(apart), rtol=1e-6)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_arrival_order_changes_no_bit(way):
    rng = np.random.default_rng(5)
    sites = [Contribution(f"s{i}", 1, "m", 1.0 + i, float(i), rng.normal(size=9).astype(np.float32)) for i in range(5)]
    made = {average.combine(order, _rule(way)).values.tobytes() for order in permutations(sites)}
    assert len(made) == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
@few
@given(
    hnp.arrays(np.float32, (6, 5), elements=st.floats(0, 2.0**40, width=32)),
    hnp.arrays(np.float32, 5, elements=st.floats(0, 1e3, width=32)),
)
def test_what_is_positive_stays_positive(way, vectors, origin):
    """Variances of batch norm are among what is combined."""
    assert (_rule(way).combine(list(vectors), origin) >= 0).all()


@pytest.mark.parametrize("way", WAYS, ids=str)
@few
@given(
    hnp.arrays(np.float32, (6, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
def test_finite_values_of_any_size_come_to_finite_ones(way, vectors):
    assert np.isfinite(_rule(way).combine(list(vectors))).all()


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_and_not_voted_down(way, bad):
    sites = [Contribution(f"s{i}", 1, "m", 1.0, 0.5, np.full(3, float(i), np.float32)) for i in range(6)]
    sites[2].values[1] = bad
    with pytest.raises(ContributionError, match="site s2 sent 1 values that are NaN or infinite"):
        average.combine(sites, _rule(way))


def test_a_rule_wants_as_many_as_its_paper_says():
    assert [Rule(name, 2).needed() for name in RULES] == [1, 5, 5, 5, 5, 7, 7]
    assert Rule("mean", 2, clips=True).needed() == 5
    with pytest.raises(ContributionError, match="rule 'krum' wants 7 contributions in a round; here are 6"):
        Rule("krum", 2).combine([np.ones(2)] * 6)


def test_who_was_found_out_need_not_be_withstood_as_well():
    rule = Rule("krum", 1)
    assert (rule.needed(), rule.needed(1), rule.needed(9)) == (5, 3, 3)
    assert (rule.tolerated(5), rule.tolerated(5, 1), rule.tolerated(4, 1)) == (1, 1, 0)
    with pytest.raises(ContributionError):
        rule.tolerated(4)
    assert Rule("median", 2).tolerated(4, 1) == 1 and Rule("trimmed-mean", 2).tolerated(4, 2) == 1


def test_one_voice_each_and_the_median_loss():
    sites = [Contribution(f"s{i}", 1, "m", weight, loss, np.array([float(i)], np.float32))
             for i, (weight, loss) in enumerate([(1, 0.5), (1, 0.7), (1e6, 1e9)])]  # fmt: skip
    made = average.combine(sites, Rule("median"))
    assert (made.values[0], made.loss, made.sites) == (1.0, 0.7, ("s0", "s1", "s2"))


def test_updates_are_clipped_from_where_they_start_and_short_ones_keep_every_bit():
    start = np.array([5.0, 5.0])
    vectors = [start + np.array(step) for step in [(3.0, 4.0), (0.0, 1.0), (1.0, 0.0)]]
    contributions = [Contribution(f"s{i}", 1, "m", 1.0, 0.0, vector) for i, vector in enumerate(vectors)]
    made = average.combine(contributions, Rule("mean", clips=True), Ground(start)).values
    np.testing.assert_allclose(made, start + np.array([1.6, 1.8]) / 3, rtol=1e-15)


def test_settings_name_the_rule_and_the_default_is_the_weighted_mean():
    assert named(Settings()).rule.plain and GradientMean().rule == Rule()
    settings, _ = parse({"rule": "krum", "byzantine": 2, "mixing_neighbours": True, "strategy": "fedavg"})
    assert named(settings).rule == Rule("krum", 2, True) and settings.one_voice and not Settings().one_voice
    with pytest.raises(SettingsError, match="did you mean 'median'"):
        parse({"rule": "medain"})
    with pytest.raises(SettingsError, match="'clip_norms' is 1; wanted true or false"):
        parse({"clip_norms": 1})
    with pytest.raises(SettingsError, match="'mixing_neighbours' is true with rule 'mean'"):
        parse({"mixing_neighbours": True})
    with pytest.raises(SettingsError, match="'byzantine' is 2 and has no effect with rule 'mean'"):
        parse({"byzantine": 2})
    with pytest.raises(SettingsError, match="'weighting' is 'samples' with a rule by which each site has one voice"):
        parse({"rule": "median", "weighting": "samples"})
    with pytest.raises(SettingsError, match="'rule' is 'median'; strategy 'scaffold' wants 'mean'"):
        parse({"rule": "median", "strategy": "scaffold", "optimizer": "sgd", "momentum": 0, "weighting": "equal"})
    with pytest.raises(SettingsError, match="'clip_norms' wants to see what each site sends"):
        parse({"clip_norms": True, "secure_aggregation": True})
