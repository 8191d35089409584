"""What the web serves: the desk at which cases are handled, who is believed, and what this machine can do."""

from __future__ import annotations

from dataclasses import dataclass

from service.bell import Bell
from service.cases.desk import Desk
from service.identity.local import Local
from service.identity.principal import Verifier

__all__ = ["LONGEST_WAIT", "Served"]

#: Seconds for which a request may wait for news.
LONGEST_WAIT = 25


@dataclass(frozen=True)
class Served:
    """See above.

    Attributes
    ----------
    desk : Desk
        Where cases are handled.
    verifier : Verifier
        Makes principals out of tokens.
    local : Local, optional
        Accounts of this service's own; nothing where a user pool keeps them.
    bell : Bell, optional
        Says that something has happened; without it whoever waits looks every two seconds.
    longest_wait : int
        Seconds that `?wait=` may hold a request; 0 on Lambda, where waiting costs.
    """

    desk: Desk
    verifier: Verifier
    local: Local | None = None
    bell: Bell | None = None
    longest_wait: int = LONGEST_WAIT
