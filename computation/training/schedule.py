"""The learning rate as a pure function of the round.

All sites step their own optimiser, so they need the same rate to the last bit, and the last bit of a cosine or a power
depends on the machine's C library. Decimal arithmetic does not: it rounds the same everywhere. The result is rounded to
12 significant digits, which leaves room for any remaining difference and nothing that training would notice.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import lru_cache

from computation.settings import Settings

__all__ = ["learning_rate"]

#: One-cycle (Smith and Topin 2018, arXiv 1708.07120) with PyTorch's defaults: rise over 30 % of the run from 1/25 of
#: the peak, fall to 1/250,000 of it.
_RISE, _START, _END = Decimal("0.3"), Decimal(25), Decimal(250_000)
#: Three equal parts of the run, each at a tenth of the rate of the part before.
_PARTS, _DROP = 3, Decimal("0.1")
#: The exponential schedule ends at this share of the peak.
_LAST = Decimal("0.01")

_CONTEXT = Context(prec=40)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510")


def learning_rate(settings: Settings, index: int, total: int) -> float:
    """Return the rate of one round.

    Parameters
    ----------
    settings : Settings
        `schedule` and the peak `learning_rate`.
    index : int
        Round, from 0 to `total - 1`.
    total : int
        Rounds of the run. A run of one round has the peak rate.

    Returns
    -------
    float
        Rounded to 12 significant digits, the same on every machine.
    """
    return _rate(settings.schedule, settings.learning_rate, index, total)


@lru_cache(maxsize=2)  # a round asks for its rate when it steps and when it is written down
def _rate(schedule: str, peak: float, index: int, total: int) -> float:
    with localcontext(_CONTEXT):
        share = _SCHEDULES[schedule](index, total) if total > 1 else Decimal(1)
        return float(f"{Decimal(repr(peak)) * share:.11e}")


def _one_cycle(index: int, total: int) -> Decimal:
    top = _RISE * total - 1
    if index <= top:
        return _anneal(1 / _START, Decimal(1), index / top)
    return _anneal(Decimal(1), 1 / _END, (index - top) / (total - 1 - top))


def _anneal(start: Decimal, end: Decimal, share: Decimal) -> Decimal:
    """Go from start to end along half a cosine."""
    return end + (start - end) / 2 * (1 + _cosine(_PI * share))


def _cosine(angle: Decimal) -> Decimal:
    """Return the cosine of an angle in 0..pi by its Taylor series, to 30 digits or more."""
    term = total = Decimal(1)
    square = -angle * angle
    for power in range(2, 64, 2):
        term *= square / (power * (power - 1))
        total += term
    return total


def _step(index: int, total: int) -> Decimal:
    return _DROP ** (index // -(-total // _PARTS))


def _exponential(index: int, total: int) -> Decimal:
    # `exp` and `ln` of a Decimal are correctly rounded; its power is not promised to be.
    return (_LAST.ln() * index / (total - 1)).exp()


def _constant(index: int, total: int) -> Decimal:
    return Decimal(1)


_SCHEDULES = {"one-cycle": _one_cycle, "step": _step, "exponential": _exponential, "constant": _constant}
