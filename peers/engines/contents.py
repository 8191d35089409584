"""Content in virtual time: who holds what, who is asked for it, and what comes twice."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from peers import cid
from peers.engines.network import Network
from peers.requests import Get
from peers.traffic import Count, Traffic

__all__ = ["Contents", "World"]

#: Bytes of a question for content.
_QUESTION = 128


class World(Protocol):
    """What content needs of virtual time."""

    network: Network
    chance: np.random.Generator
    traffic: Traffic

    def carry(self, sender: str, receiver: str, values: int, size: int, arrive: Any, reliable: bool = True) -> None:
        """Take something from one end of a link to the other, then do what is to be done there."""
        ...

    def later(self, name: str, seconds: float, answer: Any, what: str) -> None:
        """Answer a peer after some time, unless it has its answer by then."""
        ...

    def advance(self, name: str, answer: Any) -> None:
        """Give a peer its answer, and let it go on."""
        ...

    def waits_for(self, name: str) -> str:
        """Return what a peer waits for; nothing where it does not."""
        ...

    def alive(self, name: str) -> bool:
        """Tell whether a peer is there."""
        ...

    def life(self, name: str) -> int:
        """Return a number that changes when a peer goes."""
        ...


class Contents:
    """All that peers hold, by address.

    Attributes
    ----------
    held : dict
        Content of each peer by address.
    holders : list of int
        How many others that are there held what a peer lacked and asked for, in the order of the questions.
    """

    def __init__(self, world: World) -> None:
        self.world, self.held, self.holders = world, dict[str, dict[str, bytes]](), list[int]()
        # Whom a peer has asked for what, and in which of their lives.
        self._asked: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}

    def put(self, name: str, content: bytes) -> str:
        """Keep a content at a peer; return its address."""
        address = cid.raw(content)
        self.held.setdefault(address, {})[name] = content
        return address

    def drop(self, name: str, address: str) -> None:
        """Let a peer forget a content."""
        self.held.get(address, {}).pop(name, None)

    def get(self, name: str, request: Get) -> None:
        """Answer with what the peer has; otherwise ask those who hold it, once, and answer when it comes."""
        held, address = self.held.get(request.address, {}), request.address
        self.world.later(name, 0.0 if name in held else request.seconds, held.get(name), address)
        if name not in held and not self._on_its_way(name, address):
            self._ask(name, address)

    def _on_its_way(self, name: str, address: str) -> bool:
        life, asked = self._asked.get((name, address), (-1, {}))
        there = any(self.world.alive(one) and self.world.life(one) == then for one, then in asked.items())
        return life == self.world.life(name) and there

    def _ask(self, name: str, address: str) -> None:
        there = [one for one in sorted(self.held.get(address, {})) if self.world.alive(one)]
        self.holders.append(len(there))
        order = self.world.chance.permutation(len(there))
        asked = [there[place] for place in order[: self.world.network.answers]]
        self._asked[name, address] = self.world.life(name), {one: self.world.life(one) for one in asked}
        for holder in asked:
            self._fetch(name, holder, address)

    def _fetch(self, name: str, holder: str, address: str) -> None:
        def reached() -> None:
            content = self.held.get(address, {}).get(holder)
            if content is not None:  # else it was dropped meanwhile
                self.world.carry(holder, name, 0, len(content), lambda: self._arrive(name, holder, address, content))

        self.world.carry(name, holder, 0, _QUESTION, reached)

    def _arrive(self, name: str, holder: str, address: str, content: bytes) -> None:
        if self._asked.pop((name, address), None) is None:
            self.world.traffic.count(holder, name, Count(duplicates=1, again=len(content)))
            return
        self.held.setdefault(address, {})[name] = content
        if self.world.waits_for(name) == address:
            self.world.advance(name, content)
