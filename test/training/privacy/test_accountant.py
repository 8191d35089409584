"""What rounds cost: against dp-accounting's own accountants, a closed form, and itself."""

import math
import sys

import pytest
from scipy.optimize import brentq
from scipy.stats import norm as normal

from computation.errors import SettingsError
from computation.training.privacy import accountant
from computation.training.privacy.accountant import epsilon, least_noise, most_rounds, rounded

dp_accounting = pytest.importorskip(
    "dp_accounting", reason="DIFFERENTIAL PRIVACY IS NOT TESTED: its extra is not installed"
)
CASES = [(1.0, 0.25, 1), (1.0, 0.25, 40), (4.0, 0.25, 1000), (0.8, 0.01, 300), (10.0, 1.0, 100), (2.0, 0.5, 30)]


def _event(noise, chance):
    return dp_accounting.PoissonSampledDpEvent(chance, dp_accounting.GaussianDpEvent(noise))


@pytest.mark.parametrize(("noise", "chance", "rounds"), CASES)
def test_epsilon_is_dp_accountings_own_and_never_below_it(noise, chance, rounds):
    from dp_accounting.pld import PLDAccountant

    theirs = PLDAccountant().compose(_event(noise, chance), rounds).get_epsilon(1e-5)
    ours = epsilon(noise, chance, rounds, 1e-5)
    assert theirs * (1 - 1e-6) <= ours <= theirs * 1.001


@pytest.mark.parametrize(("noise", "chance", "rounds"), CASES)
def test_renyi_accounting_bounds_it_from_above(noise, chance, rounds):
    from dp_accounting.rdp import RdpAccountant

    renyi = RdpAccountant().compose(_event(noise, chance), rounds).get_epsilon(1e-5)
    assert 0.5 * renyi < epsilon(noise, chance, rounds, 1e-5) <= renyi


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (3.0, 1), (10.0, 25)])
def test_without_sampling_it_is_the_closed_form(noise, rounds):
    """Balle and Wang 2018, arXiv 1805.06530, theorem 8."""
    deviation = noise / math.sqrt(rounds)

    def delta(value):
        half, move = 1 / (2 * deviation), value * deviation
        return normal.cdf(half - move) - math.exp(value) * normal.cdf(-half - move)

    exact = brentq(lambda value: delta(value) - 1e-5, 0, 50)
    assert exact <= epsilon(noise, 1.0, rounds, 1e-5) <= exact * 1.001


@pytest.mark.parametrize(("noise", "chance", "budget"), [(1.0, 0.25, 8.0), (4.0, 0.25, 3.0), (10.0, 1.0, 2.0)])
def test_as_many_rounds_as_the_budget_allows_and_not_one_more(noise, chance, budget):
    most = most_rounds(noise, chance, budget, 1e-5, 5000)
    assert epsilon(noise, chance, most, 1e-5) <= budget < epsilon(noise, chance, most + 1, 1e-5)
    assert most_rounds(noise, chance, budget, 1e-5, most) == most
    assert most_rounds(noise, chance, budget, 1e-5, most - 1) == most - 1


@pytest.mark.parametrize(("chance", "rounds", "budget"), [(0.25, 50, 8.0), (1.0, 10, 1.0)])
def test_the_least_noise_is_enough_and_less_is_not(chance, rounds, budget):
    noise = least_noise(chance, rounds, budget, 1e-5)
    assert epsilon(noise, chance, rounds, 1e-5) <= budget < epsilon(noise / 1.01, chance, rounds, 1e-5)


def test_no_noise_is_enough_for_too_many_rounds():
    with pytest.raises(SettingsError, match="wanted fewer rounds"):
        least_noise(1.0, 2_000_000_000, 0.01, 1e-5)


def test_a_budget_for_no_round_at_all():
    assert most_rounds(0.1, 1.0, 1.0, 1e-5, 10) == 0
    assert epsilon(0.1, 1.0, 0, 1e-5) == 0


def test_far_too_many_rounds_of_little_noise_need_no_memory():
    assert most_rounds(0.1, 1.0, 100.0, 1e-5, 1_000_000) < 100


@pytest.mark.parametrize("last", [7, 99, 1234, 50_000])
def test_rounded_numbers_are_few_never_lower_and_exact_at_the_end(last):
    seen = [rounded(round, last) for round in range(1, last + 1)]
    assert all(round <= one <= last for round, one in enumerate(seen, 1))
    assert seen[-1] == last
    assert all(one <= 1.11 * round + 1 for round, one in enumerate(seen, 1))
    assert len(set(seen)) < 400


def test_without_the_library_it_says_which_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting.pld", None)
    accountant._round.cache_clear()
    with pytest.raises(SettingsError, match="extra 'privacy'"):
        epsilon(1.2345, 0.5, 1, 1e-5)
