"""What the bar at the top of every page leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.identity.principal import Principal

__all__ = ["Tab", "Tabs", "of_accounts", "of_centre", "of_runs"]


@dataclass(frozen=True)
class Tab:
    """One of them.

    Attributes
    ----------
    href, name : str
        Where it leads, and what it is called.
    within : tuple of str
        How the paths of further pages that lie under it begin.
    """

    href: str
    name: str
    within: tuple[str, ...] = ()


#: Returns what somebody's bar has; the first is the start page.
Tabs: TypeAlias = Callable[[Principal], Sequence[Tab]]


def of_centre(who: Principal) -> list[Tab]:
    """Return what leads to a centre's pages."""
    return [*of_runs(who), *of_accounts(who, "Credentials")]


def of_runs(who: Principal) -> list[Tab]:
    """Return what leads to runs, which is all where a user pool keeps the accounts."""
    invitations = [Tab("/invitations", "Invitations")] if who.has("site") else []
    return [Tab("/", "Runs", ("/runs/",)), *invitations]


def of_accounts(who: Principal, own: str = "") -> list[Tab]:
    """Return what leads to all accounts, or a site to its own, by the name that is given to that."""
    if who.has("administrator"):
        return [Tab("/accounts", "Accounts", ("/accounts/",))]
    return [Tab(f"/accounts/{who.sub}", own)] if own and who.has("site") else []
