"""What every node does: it answers, it is registered as long as it lives, and it leaves when it has been heard."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from computation.checks import parse_json
from computation.errors import MessageError, PeersError
from computation.files import replacing
from peers.mesh import letters, post
from peers.mesh.keys import Known, Pair
from peers.mesh.offers import Criteria, Offer
from peers.mesh.registry import Registry

__all__ = ["Contact", "Member", "discovered", "nearest"]

#: Times that a node registers within its lease, and tries to be let go.
_RENEWALS, _LEAVINGS = 3, 4
#: Neighbours that are told at once, and redirections that are followed.
_MOST_TOLD, _MOST_REDIRECTED = 256, 3


@dataclass(frozen=True)
class Contact:
    """A bootstrap node that is known beforehand: its name, whose key is known, and address."""

    name: str
    address: str

    @classmethod
    def read(cls, text: str) -> Contact:
        """Read NAME@HOST:PORT."""
        name, _, rest = text.rpartition("@")
        try:
            post.host_of(f"tcp://{rest}")
        except MessageError as error:
            raise PeersError(f"{text[:80]!r} is no bootstrap node; wanted NAME@HOST:PORT") from error
        return cls(name, f"tcp://{rest}")


def nearest(registry: Registry, criteria: Criteria, than: Offer) -> Offer | None:
    """Return a bootstrap node that is nearer to a place than this one, the nearest; nothing without a place."""
    if criteria.place is None:
        return None
    others = sorted(registry.bootstraps(), key=lambda one: (criteria.far(one), one.name))
    return others[0] if others and criteria.far(others[0]) < criteria.far(than) else None


def discovered(registry: Registry, message: Any, own: Offer) -> dict[str, Any]:
    """Return the answer to a search: a nearer bootstrap node, or those who fit and, besides, other ways to search."""
    criteria = Criteria.read(message.discoveryRequest)
    count = min(max(message.discoveryRequest.peersRequested, 1), _MOST_TOLD)
    caller = {"callerAddr": message.senderIpAddress}
    if near := nearest(registry, criteria, own):
        return {**caller, "redirect": near.address, "redirectKey": near.key}
    found = [*registry.find(criteria, count), *registry.bootstraps()[:_MOST_TOLD]]
    return {**caller, "availablePeers": [one.node() for one in found]}


@dataclass(eq=False)
class Member:
    """A node's place in the network.

    Attributes
    ----------
    pair, known : Pair and Known
        Its keys, and whom it believes.
    offer : callable
        Returns what it offers now.
    contacts : sequence of Contact
        Bootstrap nodes, the first that answers is taken.
    cache : Path or None
        Where the nodes that were met are remembered, for when no bootstrap node answers.
    told : callable
        Hears what went otherwise.
    """

    pair: Pair
    known: Known
    offer: Callable[[], Offer]
    contacts: Sequence[Contact]
    cache: Path | None = None
    told: Callable[[str], None] = lambda _: None
    seconds: float = 2.0
    #: Where it is registered: address and key.
    place: tuple[str, bytes] | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def join(self) -> float:
        """Register, where need be where one is sent to, and return the lease.

        Raises
        ------
        PeersError
            If no bootstrap node answers.
        """
        for address, key in self._ways():
            answer = self._register(address, key)
            for _ in range(_MOST_REDIRECTED):
                if answer is None or not answer.redirect:
                    break
                address, key = answer.redirect, bytes(answer.redirectKey)
                answer = self._register(address, key)
            if answer is not None and answer.lease > 0:
                self.place = address, key
                return float(answer.lease)
        named = ", ".join(f"{one.name} at {one.address}" for one in self.contacts)
        raise PeersError(
            f"no bootstrap node answers, neither {named} nor one that was met before; wanted one: look at it"
        )

    def _ways(self) -> list[tuple[str, bytes]]:
        known = [(one.address, self.known.key(one.name)) for one in self.contacts]
        cached = [(one.address, one.key) for one in self.remembered() if one.role == "bootstrap"]
        return [way for way in dict.fromkeys([*known, *cached]) if self.known.name(way[1])]

    def _register(self, address: str, key: bytes, leave: bool = False) -> Any:
        content = {"node": self.offer().node(), "leave": leave}
        answer = self.ask(address, key, registration=content)
        return answer.registrationResponse if answer is not None and answer.HasField("registrationResponse") else None

    def ask(self, address: str, key: bytes, *, tries: int = 2, longest: int = letters.LONGEST, **content: Any) -> Any:
        """Return a node's answer, or nothing."""
        question = letters.letter(self.pair.name, self.offer().address, **content)
        if not self.known.name(key):
            return None
        try:
            return post.ask(
                self.pair, self.known, address, key, question, seconds=self.seconds, tries=tries, longest=longest
            )
        except MessageError as error:
            self.told(f"{self.known.name(key)} gave no answer that can be read: {error.public}")
            return None

    def stay(self) -> None:
        """Register, and go on doing so in a thread; where the bootstrap node has gone, elsewhere."""
        lease = self.join()
        self._thread = threading.Thread(target=self._renew, args=(lease,), daemon=True)
        self._thread.start()

    def _renew(self, lease: float) -> None:
        while not self._over.wait(lease / _RENEWALS):
            try:
                lease = self.join()
            except PeersError as error:
                self.told(error.public)

    def leave(self) -> bool:
        """Say that the node goes, several times if need be; tell whether that was confirmed.

        Where it was not, the lease ends by itself.
        """
        self._over.set()
        if self._thread:
            self._thread.join()
        for _ in range(_LEAVINGS if self.place else 0):
            assert self.place is not None
            if self._register(*self.place, leave=True) is not None:
                return True
        if self.place:
            self.told("the bootstrap node did not confirm that this one has left; its entry ends with its lease")
        return False

    def remembered(self) -> list[Offer]:
        """Return the nodes that were met before; none where that cannot be read."""
        if self.cache is None or not self.cache.is_file():
            return []
        try:
            rows = parse_json(self.cache.read_bytes()[: letters.LONGEST])
            return [
                Offer(row["name"], row["address"], row["key"].encode(), row["role"])
                for row in rows
                if post.host_of(row["address"])
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, MessageError):
            return []

    def remember(self, offers: Sequence[Offer]) -> None:
        """Keep nodes for later."""
        if self.cache is None:
            return
        rows = {one.name: one for one in [*self.remembered(), *offers]}
        kept = [
            {"name": one.name, "address": one.address, "key": one.key.decode(), "role": one.role}
            for one in list(rows.values())[-_MOST_TOLD:]
        ]
        with replacing(self.cache) as partial:
            partial.write_text(json.dumps(kept), encoding="utf-8")
