"""All operations of the API, by kind of caller; each reads what it was asked, calls one case, and answers."""

from __future__ import annotations

from service.web.operations import Operation
from service.web.routes import accounts, health, login, rounds, runs, trail

__all__ = ["OPERATIONS"]

OPERATIONS: tuple[Operation, ...] = (
    *health.OPERATIONS,
    *login.OPERATIONS,
    *accounts.OPERATIONS,
    *runs.OPERATIONS,
    *rounds.OPERATIONS,
    *trail.OPERATIONS,
)
