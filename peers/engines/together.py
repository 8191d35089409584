"""What all peers do together in virtual time: a mean through a star or around a ring, and a broadcast.

Each is made of messages that take their time like all others, so what it costs is found and not assumed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from computation.errors import PeersError
from computation.strategies.average import normalised, weighted_mean
from computation.wire import payload
from computation.wire.payload import Vector
from peers import collectives
from peers.engines.network import CENTRE, Network
from peers.requests import Broadcast, Mean

__all__ = ["Together", "World", "together"]


class World(Protocol):
    """What a collective needs of virtual time."""

    names: tuple[str, ...]
    network: Network

    def carry(
        self, sender: str, receiver: str, values: int, size: int, arrive: Callable[[], None], reliable: bool = True
    ) -> None:
        """Take something from one end of a link to the other, then do what is to be done there."""
        ...

    def answer(self, name: str, answer: Any) -> None:
        """Give a peer its answer, at this moment of virtual time."""
        ...


def together(first: Mean | Broadcast, world: World, over: Callable[[], Any]) -> Together:
    """Return what peers do together, as the first who comes wants it; `over` is called when all have their answer."""
    if isinstance(first, Broadcast):
        return _Broadcast(first, world, over)
    return (_Ring if world.network.collective == "ring" else _Star)(first, world, over)


@dataclass(eq=False)
class Together(ABC):
    """One collective: peers come one by one, and each gets its answer when it is there."""

    first: Any
    world: World
    over: Callable[[], Any]
    here: dict[str, Any] = field(default_factory=dict)
    answered: int = 0

    def come(self, name: str, request: Mean | Broadcast) -> None:
        """Take a peer in; raises `PeersError` if it wants something else than the first."""
        if _form(request) != _form(self.first):
            raise PeersError(f"{name} asks for a {_form(request)} where the others ask for a {_form(self.first)}")
        if isinstance(request, Mean) and not 0 <= request.weight < math.inf:
            raise PeersError(f"{name} brings the weight {request.weight} to a mean; wanted a finite one from 0")
        self.here[name] = request
        self.begin(name)

    @abstractmethod
    def begin(self, name: str) -> None:
        """Do what can be done now that this peer has come."""

    def answer(self, name: str, values: Vector | None) -> None:
        """Give one peer its answer."""
        self.answered += 1
        if self.answered == len(self.world.names):
            self.over()
        self.world.answer(name, None if values is None else np.array(values))

    def carry(self, sender: str, receiver: str, arrive: Callable[[], None]) -> None:
        """Carry a whole vector, in a payload."""
        values = self.first.values
        self.world.carry(sender, receiver, values.size, payload.HEADER_BYTES + values.nbytes, arrive)


def _form(request: Mean | Broadcast) -> str:
    what = f"broadcast from {request.root}" if isinstance(request, Broadcast) else "mean"
    return f"{what} of {request.values.size} values of {request.values.dtype}"


@dataclass(eq=False)
class _Star(Together):
    """All send to a centre, which adds in the order of names and answers all."""

    arrived: int = 0

    def begin(self, name: str) -> None:
        self.carry(name, CENTRE, self._arrive)

    def _arrive(self) -> None:
        self.arrived += 1
        if self.arrived == len(self.world.names):
            mean = _mean([self.here[name] for name in self.world.names])
            for name in self.world.names:
                self.carry(CENTRE, name, lambda name=name: self.answer(name, mean))  # type: ignore[misc]


def _mean(requests: list[Mean]) -> Vector | None:
    """Return the mean in the order given, or nothing where all weights are zero."""
    collectives.check_weights(sum(one.weight for one in requests), requests[0].most)
    counted = [one for one in requests if one.weight > 0]
    shares = normalised([one.weight for one in counted])
    return weighted_mean([one.values for one in counted], shares) if counted else None


@dataclass(eq=False)
class _Ring(Together):
    """Every peer drives its own part of the ring all-reduce."""

    parts: dict[str, Any] = field(default_factory=dict)
    shifts: dict[str, int] = field(default_factory=dict)
    #: What has come from the left, by peer and shift: with jitter, one shard may overtake another.
    came: dict[tuple[str, int], Vector] = field(default_factory=dict)

    def begin(self, name: str) -> None:
        names, own = self.world.names, self.here[name]
        self.parts[name] = collectives.mean(own, names.index(name), len(names))
        self._shift(name, None)

    def _shift(self, name: str, came: Vector | None) -> None:
        """Take in what came, and send on what is to go next."""
        names = self.world.names
        try:
            going, _ = self.parts[name].send(came)
        except StopIteration as end:
            self.answer(name, end.value)
            return
        shift = self.shifts[name] = self.shifts.get(name, 0) + 1
        right, shard = names[(names.index(name) + 1) % len(names)], np.array(going)
        self.world.carry(name, right, shard.size, shard.nbytes, lambda: self._arrive(right, shift, shard))
        self._go_on(name)

    def _arrive(self, name: str, shift: int, shard: Vector) -> None:
        self.came[name, shift] = shard
        self._go_on(name)

    def _go_on(self, name: str) -> None:
        if (shard := self.came.pop((name, self.shifts.get(name, 0)), None)) is not None:
            self._shift(name, shard)


@dataclass(eq=False)
class _Broadcast(Together):
    """The root sends to each of the others."""

    came: set[str] = field(default_factory=set)

    def begin(self, name: str) -> None:
        root = self.first.root
        if root not in self.world.names:
            raise PeersError(f"the root of a broadcast is {root!r}, who is no peer of this run")
        if name == root:
            for one in self.world.names:
                if one != root:
                    self.carry(root, one, lambda one=one: self._arrive(one))  # type: ignore[misc]
            self._arrive(root)
        else:
            self._go_on(name)

    def _arrive(self, name: str) -> None:
        self.came.add(name)
        self._go_on(name)

    def _go_on(self, name: str) -> None:
        if name in self.came and name in self.here:
            self.answer(name, self.here[self.first.root].values)
