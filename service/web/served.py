"""What the web serves: the desk at which cases are handled, who is believed, and what this machine can do."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.bell import Bell
from service.cases.desk import Desk
from service.identity.local import Local
from service.identity.principal import Verifier
from service.web.operations import LONGEST_WAIT
from service.web.recent import Recent

__all__ = ["Served"]


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
    recent : Recent
        Results that were shown a moment ago.
    """

    desk: Desk
    verifier: Verifier
    local: Local | None = None
    bell: Bell | None = None
    longest_wait: int = LONGEST_WAIT
    recent: Recent = field(default_factory=Recent, compare=False, repr=False)
