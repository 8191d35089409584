"""The network of virtual time: what it does to messages and peers, all of it from one seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from computation.errors import PeersError

__all__ = ["CENTRE", "Network", "Outage"]

#: The end of a star's links that is no peer.
CENTRE = "centre"
#: Seconds of anything: beyond it, moments would no longer be told apart.
_LONGEST = 1e9


@dataclass(frozen=True)
class Outage:
    """A peer that goes, and perhaps comes back.

    Attributes
    ----------
    name : str
        Whose.
    at, until : float
        Seconds of virtual time; the peer that comes back goes on from its last closed round.

    Raises
    ------
    PeersError
        If it comes back before it goes.
    """

    name: str
    at: float
    until: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.at < self.until or math.isinf(self.at):
            raise PeersError(
                f"{self.name} goes at {self.at} s and comes back at {self.until} s; wanted two moments in order"
            )


@dataclass(frozen=True)
class Network:
    """How long what takes.

    Attributes
    ----------
    latency : float
        Seconds from one peer to another; half a round trip.
    bandwidth : float
        Bytes in a second that a peer can send, and as many that it can take in at the same time.
    jitter : float
        Up to so many seconds more, drawn for each message: so one can overtake another.
    loss, duplication : float
        Shares of messages that are lost, and that arrive twice. What must not be lost is sent again after two round
        trips; what arrives twice is known by its number and dropped.
    seconds : float or None
        Of one batch at a peer; measured at the first one if none is given, and then no two runs take the same time.
    stragglers : dict of float
        How many times longer a peer takes for a batch.
    outages : tuple of Outage
        Who goes when.
    mesh : int
        Neighbours to whom a peer passes on what is published, so that it comes to some twice, as in gossipsub; 0: each
        published text goes straight to everybody.
    answers : int
        Of those who hold a content, how many send it at once to who asks for it, as in bitswap without sessions.
    collective : str
        How a mean is come by: `star`, through a centre that adds in the order of names, or `ring`.
    seed : int
        Of all that is drawn.

    Raises
    ------
    PeersError
        If a number is out of range.
    """

    latency: float = 0.0
    bandwidth: float = math.inf
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    seconds: float | None = None
    stragglers: Mapping[str, float] = field(default_factory=dict)
    outages: tuple[Outage, ...] = ()
    mesh: int = 0
    answers: int = 1
    collective: str = "star"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "seconds"):
            _expect(name, getattr(self, name) or 0.0, 0.0, _LONGEST)
        for name in ("loss", "duplication"):
            _expect(name, getattr(self, name), 0.0, 0.99)
        _expect("bandwidth", self.bandwidth, 1.0, math.inf)
        _expect("mesh", self.mesh, 0, 1000)
        _expect("answers", self.answers, 1, 1000)
        _expect("seed", self.seed, 0, math.inf)
        for name, factor in self.stragglers.items():
            _expect(f"straggler {name}", factor, 0.0, _LONGEST)
        if self.collective not in ("star", "ring"):
            raise PeersError(f"a mean can be come by through a star or a ring, not {self.collective!r}")

    @property
    def again(self) -> float:
        """Seconds after which a lost message that must not be lost is sent again."""
        return max(4 * self.latency, 1e-3)


def _expect(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise PeersError(f"{name} is {value}; wanted a number from {low:g} to {high:g}")
