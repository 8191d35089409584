"""How contributions become one model: one small file per strategy, the same verbs in each.

A strategy knows nothing of COINSTAC, files or time. Any engine may drive it: a centre, a ring, or peers.
"""

from __future__ import annotations

from collections.abc import Callable

from computation.errors import SettingsError
from computation.settings import Settings
from computation.strategies.adaptive import Adaptive
from computation.strategies.base import Combined, Contribution, Ground, Strategy
from computation.strategies.fedadagrad import FedAdagrad
from computation.strategies.fedadam import FedAdam
from computation.strategies.fedavg import FedAvg
from computation.strategies.fedavgm import FedAvgM
from computation.strategies.fedprox import FedProx
from computation.strategies.fedyogi import FedYogi
from computation.strategies.gradient_mean import GradientMean
from computation.strategies.rules import Rule
from computation.strategies.scaffold import Scaffold

__all__ = ["Combined", "Contribution", "Ground", "Rule", "Strategy", "named"]


def _adaptive(kind: type[Adaptive]) -> Callable[[Settings, str], Strategy]:
    return lambda settings, site: kind(settings.server_rate, settings.server_momentum, settings.server_adaptivity)


_STRATEGIES: dict[str, Callable[[Settings, str], Strategy]] = {
    "gradient-mean": lambda settings, site: GradientMean(),
    "fedavg": lambda settings, site: FedAvg(),
    "fedprox": lambda settings, site: FedProx(settings.proximal),
    "fedavgm": lambda settings, site: FedAvgM(settings.server_rate, settings.server_momentum),
    "fedadam": _adaptive(FedAdam),
    "fedyogi": _adaptive(FedYogi),
    "fedadagrad": _adaptive(FedAdagrad),
    "scaffold": lambda settings, site: Scaffold(site),
}


def named(settings: Settings, site: str = "") -> Strategy:
    """Return the strategy that the settings name.

    Parameters
    ----------
    settings : Settings
        The owner's.
    site : str
        Who contributes by it; empty at the centre.

    Raises
    ------
    SettingsError
        If there is no such strategy.
    """
    try:
        make = _STRATEGIES[settings.strategy]
    except KeyError:
        raise SettingsError(
            f"unknown strategy {settings.strategy!r}; wanted one of {', '.join(sorted(_STRATEGIES))}"
        ) from None
    strategy = make(settings, site)
    strategy.rule = Rule.of(settings)
    return strategy
