"""How contributions become one model: one small file per strategy, the same verbs in each.

A strategy knows nothing of COINSTAC, files or time. Any engine may drive it: a centre, a ring, or peers.
"""

from __future__ import annotations

from computation.errors import SettingsError
from computation.settings import Settings
from computation.strategies.base import Combined, Contribution, Strategy
from computation.strategies.fedavg import FedAvg
from computation.strategies.gradient_mean import GradientMean

__all__ = ["Combined", "Contribution", "Strategy", "named"]

_STRATEGIES: dict[str, type[Strategy]] = {"gradient-mean": GradientMean, "fedavg": FedAvg}


def named(settings: Settings) -> Strategy:
    """Return the strategy that the settings name.

    Raises
    ------
    SettingsError
        If there is no such strategy.
    """
    try:
        return _STRATEGIES[settings.strategy]()
    except KeyError:
        raise SettingsError(
            f"unknown strategy {settings.strategy!r}; wanted one of {', '.join(sorted(_STRATEGIES))}"
        ) from None
