"""What really travelled between peers: messages, values, bytes and duplicates, by link.

Each peer counts what it sends, when it has been sent; all peers' counts together are the whole system's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Count", "Traffic"]


@dataclass(frozen=True)
class Count:
    """How much went over a link, or over several.

    Attributes
    ----------
    messages : int
        Handed to the network, whatever it makes of them.
    values : int
        Numbers of flat vectors in them.
    bytes : int
        Of the values and of what is wrapped around them by us; what the network adds is not counted.
    duplicates : int
        Of the messages: the receiver had them already.
    lost : int
        Of the messages: they never arrived.
    again : int
        Of the bytes: the receiver had them already.
    """

    messages: int = 0
    values: int = 0
    bytes: int = 0
    duplicates: int = 0
    lost: int = 0
    again: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.messages + other.messages,
            self.values + other.values,
            self.bytes + other.bytes,
            self.duplicates + other.duplicates,
            self.lost + other.lost,
            self.again + other.again,
        )


@dataclass
class Traffic:
    """Counts by link; any thread may count.

    Attributes
    ----------
    links : dict of Count
        By the names of sender and receiver.
    """

    links: dict[tuple[str, str], Count] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, sender: str, receiver: str, count: Count) -> None:
        """Add what went from one peer to another."""
        with self._lock:
            self.links[sender, receiver] = self.links.get((sender, receiver), Count()) + count

    def merge(self, other: Traffic) -> None:
        """Add what another has counted."""
        for (sender, receiver), count in list(other.links.items()):
            self.count(sender, receiver, count)

    def sent(self, name: str) -> Count:
        """Return what a peer sent, to all others together."""
        return _sum(count for (sender, _), count in list(self.links.items()) if sender == name)

    def received(self, name: str) -> Count:
        """Return what was sent to a peer, by all others together."""
        return _sum(count for (_, receiver), count in list(self.links.items()) if receiver == name)

    def total(self) -> Count:
        """Return what all peers sent together."""
        return _sum(list(self.links.values()))

    @property
    def busiest(self) -> int:
        """Bytes through the peer, or the centre, through which most went, in and out together."""
        ends = {name for link in self.links for name in link}
        return max((self.sent(name).bytes + self.received(name).bytes for name in ends), default=0)

    def summary(self) -> dict[str, Any]:
        """Return the whole system's counts and each link's, for the summary of a run."""
        return {**vars(self.total()), "busiest_peer_bytes": self.busiest, "links": self.as_json()}

    def as_json(self) -> list[dict[str, str | int]]:
        """Return one plain record for each link, sorted by sender and receiver."""
        return [
            {"sender": sender, "receiver": receiver, **vars(count)}
            for (sender, receiver), count in sorted(self.links.items(), key=lambda link: link[0])
        ]


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count())
