"""Who is there, as long as its lease runs: an entry that is not renewed goes by itself, so there are no ghosts."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from computation.errors import PeersError
from peers.mesh.offers import Criteria, Offer

__all__ = ["Registry"]


class Registry:
    """Offers with leases; any thread may use it.

    Every entry has the same time to live, so the oldest is the first to go, and memory holds what is there and no more.

    Parameters
    ----------
    lease : float
        Seconds that an entry lives without being renewed.
    most : int
        Entries at once.
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, lease: float = 60.0, most: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease, self._most, self._clock = lease, most, clock
        self._entries: OrderedDict[str, tuple[float, Offer]] = OrderedDict()
        self._lock = Lock()

    def renew(self, offer: Offer) -> float:
        """Enter a node, or renew its entry; return the seconds that it lasts.

        Raises
        ------
        PeersError
            If there are too many.
        """
        with self._lock:
            self._sweep()
            if offer.name not in self._entries and len(self._entries) >= self._most:
                raise PeersError(f"there are {self._most} nodes here already; take another bootstrap node")
            self._entries[offer.name] = self._clock() + self.lease, offer
            self._entries.move_to_end(offer.name)
        return self.lease

    def leave(self, name: str) -> bool:
        """Take a node out; tell whether it was there."""
        with self._lock:
            return self._entries.pop(name, None) is not None

    def offers(self) -> tuple[Offer, ...]:
        """Return all whose leases run, the longest silent first."""
        with self._lock:
            self._sweep()
            return tuple(offer for _, offer in self._entries.values())

    def find(self, criteria: Criteria, count: int) -> tuple[Offer, ...]:
        """Return at most so many that fit, the nearest first, then by name."""
        fitting = [offer for offer in self.offers() if criteria.fits(offer)]
        return tuple(sorted(fitting, key=lambda offer: (criteria.far(offer), offer.name))[:count])

    def bootstraps(self) -> tuple[Offer, ...]:
        """Return the bootstrap nodes that are registered, by name."""
        return tuple(sorted((one for one in self.offers() if one.role == "bootstrap"), key=lambda one: one.name))

    def _sweep(self) -> None:
        now = self._clock()
        while self._entries:
            name, (until, _) = next(iter(self._entries.items()))
            if until > now:
                return
            del self._entries[name]

    def __len__(self) -> int:
        return len(self.offers())
