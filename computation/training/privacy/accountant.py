"""What rounds cost: epsilon by composing privacy loss distributions, as the library dp-accounting does it.

Each round is a Gaussian mechanism over scans that are drawn independently (Poisson subsampling), two databases being
neighbours if one scan of one has no say in the other. The distributions are rounded so that epsilon is never too low
(Doroshenko et al. 2022, "Connect the dots", arXiv 2207.04380).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from computation.errors import SettingsError

__all__ = ["epsilon", "least_noise", "most_rounds", "rounded"]

#: Noise that is looked for lies between these; a value is taken that is at most so many times too large.
_NOISES, _CLOSE = (0.1, 10_000.0), 1.001
#: Width of a step of a distribution: epsilon comes out at most a ten-thousandth too high, and 30 ms later.
_INTERVAL = 1e-3


def epsilon(noise: float, rate: float, rounds: int, delta: float) -> float:
    """Return epsilon after so many rounds.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise, in units of the largest norm of one scan.
    rate : float
        Chance of each scan to be in a round.
    rounds : int
        From 0.
    delta : float
        Chance that epsilon does not hold.

    Raises
    ------
    SettingsError
        If dp-accounting is not installed.
    """
    return _epsilon(noise, rate, rounds, delta) if rounds else 0.0


@lru_cache(maxsize=256)
def _epsilon(noise: float, rate: float, rounds: int, delta: float) -> float:
    return float(_round(noise, rate).self_compose(rounds).get_epsilon_for_delta(delta))


@lru_cache(maxsize=32)
def _round(noise: float, rate: float) -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError as error:
        raise SettingsError(
            "setting 'dp' needs the extra 'privacy', which is not installed; install 'coinstac-meshnet[privacy]' at "
            "each site and at the centre",
            repr(error),
        ) from error
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=_INTERVAL, use_connect_dots=True
    )


def most_rounds(noise: float, rate: float, budget: float, delta: float, wanted: int) -> int:
    """Return how many of the wanted rounds a budget allows: after them epsilon is at most `budget`.

    Parameters
    ----------
    noise, rate, delta
        As for `epsilon`.
    budget : float
        Largest epsilon.
    wanted : int
        Rounds that are not exceeded anyway.
    """
    # Doubled from below: the distribution of far too many rounds would not fit into memory.
    low, high = 0, 1
    while high < wanted and epsilon(noise, rate, high, delta) <= budget:
        low, high = high, min(2 * high, wanted)
    if epsilon(noise, rate, high, delta) <= budget:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon(noise, rate, middle, delta) <= budget else (low, middle)
    return low


def least_noise(rate: float, rounds: int, budget: float, delta: float) -> float:
    """Return the least noise, to a thousandth, with which so many rounds are within a budget: a `dp_noise` to set.

    Parameters
    ----------
    rate, rounds, delta
        As for `epsilon`.
    budget : float
        Largest epsilon.

    Raises
    ------
    SettingsError
        If even the largest noise there is would not do.
    """
    low, high = _NOISES
    if most_rounds(high, rate, budget, delta, rounds) < rounds:
        raise SettingsError(f"no noise brings {rounds} rounds within an epsilon of {budget:g}; wanted fewer rounds")
    while high > low * _CLOSE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if most_rounds(middle, rate, budget, delta, rounds) == rounds else (middle, high)
    return high


def rounded(round: int, last: int) -> int:
    """Return a number of rounds of two digits that is not lower, nor beyond the last: for so few epsilon is computed.

    Examples
    --------
    >>> rounded(99, 5000), rounded(101, 5000), rounded(4901, 4950)
    (99, 110, 4950)
    """
    step: int = 10 ** max(0, len(str(round)) - 2)
    return min(last, -(-round // step) * step)
