"""Who is asking, and what tells it from a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["ROLES", "Principal", "Verifier"]

#: An administrator keeps accounts, a coordinator makes runs, a site takes part in them, a viewer looks on.
ROLES = ("administrator", "coordinator", "site", "viewer")


@dataclass(frozen=True)
class Principal:
    """Somebody whose token was verified.

    Attributes
    ----------
    sub : str
        Who it is, for ever; never a name or an e-mail address, which can change hands.
    roles : frozenset of str
        Some of `ROLES`.
    name : str
        What others may read.
    since : int
        When it logged in, in milliseconds since 1970.
    machine : bool
        Whether it is a program with a credential of its own, and nobody sits before it.
    """

    sub: str
    roles: frozenset[str]
    name: str = ""
    since: int = 0
    machine: bool = False

    def __post_init__(self) -> None:
        if not self.sub or not self.roles <= set(ROLES):
            raise ValueError("a principal without a sub, or with a role that does not exist")

    def has(self, *roles: str) -> bool:
        """Tell whether it has one of these roles."""
        return not self.roles.isdisjoint(roles)


class Verifier(Protocol):
    """Makes a principal out of a token; nothing else says who is asking."""

    def verify(self, token: str) -> Principal:
        """Return whose token it is.

        Raises
        ------
        IdentityError
            If it is nobody's, or no longer; the text does not say which.
        ServiceError
            If that cannot be told now.
        """
