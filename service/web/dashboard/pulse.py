"""A short text that changes whenever a page would: what a page was made at, and what it asks for again and again."""

from __future__ import annotations

from service.cases import reading
from service.cases.desk import Desk
from service.identity.principal import Principal
from service.protocol import digest_of

__all__ = ["of_list", "of_run", "told"]

_LENGTH = 16


def of_run(desk: Desk, who: Principal, run: str) -> str:
    """Return a run's pulse; raises `Unknown` for whoever may not see it."""
    found = reading.run(desk, who, run)
    step = reading.step(desk, who, run).version if found.step >= 0 else 0
    told = [
        (one.membership.version, one.presence.status if one.presence else "", one.committed > 0)
        for one in reading.members(desk, who, run)
    ]
    return digest_of([found.version, found.step, step, told])[:_LENGTH]


def of_list(desk: Desk, who: Principal) -> str:
    """Return the pulse of somebody's newest runs."""
    runs, _ = reading.runs(desk, who, "", 50)
    return digest_of([(run.id, run.version) for run in runs])[:_LENGTH]


def told(pulse: str, now: int) -> dict[str, object]:
    """Return what a page is told that asks for its pulse, at the server's time."""
    return {"pulse": pulse, "now": now}
