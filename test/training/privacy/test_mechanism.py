"""The mechanism against what it promises: bounds, noise, draws, the same again, and what a test tells of one scan."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm as normal

from computation.errors import PrivacyError, ScanError
from computation.training.faults import NotFiniteError
from computation.training.privacy.accountant import epsilon
from computation.training.privacy.mechanism import Mechanism, Noise, bounded, rate
from computation.training.privacy.secret import Secret

SECRET = bytes(range(32))


@pytest.fixture
def mechanism(tmp_path):
    """Return a maker of mechanisms with a known secret, so that what is counted here is the same every time."""

    def make(run="run", *, secret=SECRET, **options):
        folder = tmp_path / secret.hex()[:8]
        folder.mkdir(exist_ok=True)
        (folder / "privacy.key").write_bytes(secret)
        return Mechanism(
            Noise(**{"scans": 4, "expected": 2, "clip": 1.0, "multiplier": 1.0, **options}), Secret(folder), run, 10_000
        )

    return make


@given(
    arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.floats(1e-6, 1e6),
)
def test_a_gradient_is_bounded_and_keeps_its_direction(gradient, most):
    wide = bounded(gradient, most)
    size = math.sqrt(float(np.square(gradient.astype(np.float64)).sum()))
    assert np.linalg.norm(wide) <= most * (1 + 1e-12)
    if size <= most:
        assert np.array_equal(wide, gradient)
    else:
        np.testing.assert_allclose(wide * size, gradient.astype(np.float64) * most, rtol=1e-9)


def test_without_noise_and_with_all_scans_it_is_the_mean_of_bounded_gradients(mechanism):
    gradients = np.random.default_rng(0).normal(size=(4, 30)) * [[0.01], [0.1], [1.0], [10.0]]
    mean = mechanism(expected=4, multiplier=0.0).mean(lambda scan: gradients[scan], 30, "m", 1)
    np.testing.assert_allclose(mean, sum(bounded(one, 1.0) for one in gradients) / 4, rtol=1e-14)


def test_the_divisor_is_what_is_expected_and_not_what_was_drawn(mechanism):
    ours = mechanism(scans=40, expected=8, multiplier=0.0)
    ones = np.full(1, 0.5)
    sums = np.array([ours.mean(lambda scan: ones, 1, "m", round)[0] for round in range(1, 400)])
    counts = sums * 8 / 0.5
    assert np.allclose(counts, np.rint(counts)) and len(set(np.rint(counts))) > 8
    # Binomial: 40 draws with chance 1/5.
    assert counts.mean() == pytest.approx(8, abs=4 * math.sqrt(6.4 / 400))
    assert counts.var() == pytest.approx(6.4, rel=0.3)


@pytest.mark.parametrize(("scans", "expected", "chance"), [(4, 1, 0.25), (4, 4, 1.0), (4, 9, 1.0), (1, 1, 1.0)])
def test_chance_of_a_scan(scans, expected, chance):
    noise = Noise(scans, expected, 1.0, 1.0)
    assert (noise.rate, noise.divisor) == (rate(scans, expected), scans * chance) == (chance, scans * chance)


@pytest.mark.parametrize(("multiplier", "clip", "share"), [(1.0, 1.0, 1.0), (0.7, 3.0, 1.0), (4.0, 0.1, 0.5)])
def test_the_noise_of_ten_thousand_draws_has_the_variance_it_should(mechanism, multiplier, clip, share):
    ours = mechanism(multiplier=multiplier, clip=clip, share=share)
    drawn = ours.mean(lambda scan: np.zeros(10_000), 10_000, "m", 1) * ours.noise.divisor
    assert drawn.var() == pytest.approx((multiplier * clip * share) ** 2, rel=0.02)
    assert abs(drawn.mean()) < 4 * multiplier * clip * share / 100


def test_shares_of_four_sites_add_up_to_the_whole_noise(mechanism):
    made = [mechanism(secret=bytes([site]) * 32, share=0.5) for site in range(4)]
    total = sum(one.mean(lambda scan: np.zeros(20_000), 20_000, "m", 1) * one.noise.divisor for one in made)
    assert total.var() == pytest.approx(1.0, rel=0.03)


def test_a_resumed_round_repeats_its_scans_and_noise_and_no_other_does(mechanism):
    def draw(ours, round=1, model="m"):
        return ours.mean(lambda scan: np.full(50, 0.1 * scan), 50, model, round)

    first = draw(mechanism())
    assert np.array_equal(first, draw(mechanism()))
    assert not np.isclose(first, draw(mechanism(), round=2)).any()
    assert not np.isclose(first, draw(mechanism(secret=bytes(32)))).any()


@pytest.mark.parametrize("change", [{"model": "other"}, {"run": "other"}, {"expected": 3}, {"multiplier": 0.1}])
def test_a_round_is_not_answered_twice(mechanism, change):
    """Sent back to a checkpoint with another model, plan or run, a site does not give a second answer for one price."""

    def draw(model="m", **options):
        return mechanism(**options).mean(lambda scan: np.zeros(5), 5, model, 1)

    draw()
    with pytest.raises(PrivacyError):
        draw(**change)


@pytest.mark.parametrize("fault", [ScanError("gone"), NotFiniteError("nan")])
def test_a_scan_that_fails_counts_as_nothing_and_shows_no_sign(mechanism, fault):
    def gradient(scan):
        if scan == 2:
            raise fault
        return np.full(3, 0.1)

    ours = mechanism(expected=4, multiplier=0.0)
    np.testing.assert_allclose(ours.mean(gradient, 3, "m", 1), 0.1 * 3 / 4)
    assert ours.lost == 1


@pytest.mark.parametrize("expected", [4, 2])
def test_leaving_one_scan_out_shows_as_much_as_epsilon_allows_and_no_more(mechanism, expected):
    """The best test of one value, with the scan and without: what it tells is what the accountant has allowed for."""
    noise, delta, trials = 1.0, 1e-5, 3000
    runs = {
        told: mechanism(run=told, secret=bytes([told == "with"]) * 32, expected=expected)
        for told in ("with", "without")
    }
    seen = {told: _released(ours, _pushes(told), trials) for told, ours in runs.items()}
    chance = expected / 4
    allowed = epsilon(noise, chance, 1, delta)
    for bound in (0.0, 0.5, 1.0, 1.5, 2.0):
        hits, alarms = (float((seen[told] * expected > bound).mean()) for told in ("with", "without"))
        wide = 4 * math.sqrt(0.25 / trials)
        # What is seen is what theory says: a normal, and with the scan one that is moved by the bound at its chance.
        assert alarms == pytest.approx(normal.sf(bound), abs=wide)
        assert hits == pytest.approx(chance * normal.sf(bound - 1) + (1 - chance) * normal.sf(bound), abs=wide)
        assert hits - wide <= math.exp(allowed) * (alarms + wide) + delta
    assert hits > 1.5 * alarms


def _pushes(told):
    """Return gradients of which one pushes as far as it may, and the others do not push."""
    return lambda scan: np.array([5.0 if scan == 0 and told == "with" else 0.0])


def _released(ours, gradient, trials):
    return np.array([ours.mean(gradient, 1, "m", round)[0] for round in range(1, trials)])


@pytest.mark.parametrize("round", [0, 10_001])
def test_no_round_beyond_those_that_the_budget_is_for(mechanism, round):
    with pytest.raises(PrivacyError, match=f"round {round} is not among the 10000"):
        mechanism().mean(lambda scan: np.zeros(5), 5, "m", round)
