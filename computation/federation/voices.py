"""What the rule by which contributions become one asks of a run: enough sites, and one voice for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from computation.errors import SettingsError
from computation.settings import Settings
from computation.strategies import Ground, Rule, Strategy
from computation.training.learner import Learner
from computation.wire.messages import FINDINGS

__all__ = ["check", "ground", "lowering", "notes"]

#: What the reason of a contribution that could not be read begins with; a site can say no such thing of itself.
_REFUSED = "refused: "


def check(settings: Settings, sites: Sequence[str]) -> None:
    """Refuse a rule for which there are too few sites that train.

    Raises
    ------
    SettingsError
        Naming the rule, and the sites that there are.
    """
    needed = Rule.of(settings).needed()
    if len(sites) < needed:
        raise SettingsError(
            f"rule {settings.rule!r} withstands {settings.byzantine} false sites among {needed} that train or more; "
            f"here are {len(sites)}: {', '.join(sites)[:200]}; lower 'byzantine' or choose another 'rule'"
        )


def notes(settings: Settings) -> list[str]:
    """Return what each site is told at join of the rule."""
    if not settings.one_voice:
        return []
    return [f"with rule {settings.rule!r} each site has one voice, whatever scans it says it has"]


def ground(strategy: Strategy, learner: Learner, skipped: Mapping[str, str]) -> Ground:
    """Return what the rule must know of a round beside the contributions that count, from why others do not."""
    if strategy.rule.plain:
        return Ground()
    found = sum(reason in FINDINGS or reason.startswith(_REFUSED) for reason in skipped.values())
    return Ground(strategy.origin(learner), learner.parts, found)


def lowering(settings: Settings) -> str:
    """Return the settings that let a round with fewer sites count, as a message has them."""
    return "'quorum' or 'byzantine'" if settings.one_voice else "'quorum'"
