"""All peers in one process, in virtual time: an event queue that replays bit for bit.

A peer runs until it asks for something that takes time; time is what the network's figures say, and never the wall
clock's. Events at one moment happen in the order in which they were caused. A message leaves when its sender's link is
free, takes the latency, and is in when the receiver's link has taken all of it; the rest of the model is `Network`'s.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from computation.errors import PeersError
from peers import message
from peers.engines import flood
from peers.engines.contents import Contents
from peers.engines.network import CENTRE, Network
from peers.engines.together import Together, together
from peers.peer import Peer
from peers.requests import (
    COLLECTIVE,
    CONTENT,
    MEASUREMENT,
    MEMBERSHIP,
    POINT,
    PUBSUB,
    Broadcast,
    Drop,
    Get,
    Mean,
    Message,
    Peers,
    Poll,
    Publish,
    Put,
    Report,
    Request,
    Send,
    Wait,
)
from peers.traffic import Count, Traffic

__all__ = ["OFFERS", "Event", "Outcome", "Start", "run"]

T = TypeVar("T")

#: Makes a peer and what it does; asked again when it comes back after an outage.
Start: TypeAlias = Callable[[], tuple[Peer, Generator[Request, Any, T]]]

OFFERS = frozenset({COLLECTIVE, CONTENT, MEASUREMENT, MEMBERSHIP, POINT, PUBSUB})

#: Bytes that can be published at once.
_MOST_PUBLISHED = 65_536


@dataclass(frozen=True)
class Event:
    """That a peer went or came back."""

    seconds: float
    name: str
    what: str


@dataclass(frozen=True, eq=False)
class Outcome(Generic[T]):
    """A finished run.

    Attributes
    ----------
    values : dict
        What each peer's generator returned; none for a peer that went and did not come back.
    seconds : float
        Of virtual time.
    seconds_per_batch : float
        As given, or as measured; 0 where nothing was computed.
    traffic : Traffic
        What travelled.
    events : tuple of Event
        Who went and came back.
    holders : tuple of int
        How many held what a peer asked for, at each question.
    """

    values: dict[str, T]
    seconds: float
    seconds_per_batch: float
    traffic: Traffic
    events: tuple[Event, ...]
    holders: tuple[int, ...] = ()


def run(starts: Mapping[str, Start[T]], network: Network | None = None) -> Outcome[T]:
    """Run all peers to their ends.

    Parameters
    ----------
    starts : mapping of callable
        By name.
    network : Network, optional
        An ideal one by default.

    Raises
    ------
    PeersError
        If a peer waits for what can never come; those that wait and those that are gone are named. Or if the network's
        figures are of somebody else.
    """
    network = network or Network()
    strangers = sorted({*network.stragglers, *(outage.name for outage in network.outages)} - set(starts))
    if strangers:
        raise PeersError(f"{strangers[0]!r} is slow, or goes, and is no peer of this run; wanted one of its peers")
    return _World(starts, network).run()


@dataclass(eq=False)
class _Process(Generic[T]):
    """A peer at work."""

    name: str
    start: Start[T]
    steps: Generator[Request, Any, T] | None = None
    inbox: list[Message] = field(default_factory=list)
    #: Counts what the peer has waited for: a timer that rings for something else is late.
    waits: int = 0
    waiting: str = ""
    #: How often it was started; what was sent to an earlier life does not reach a later one.
    life: int = 0
    calls: int = 0
    gone: bool = False
    finished: bool = False


class _World(Generic[T]):
    def __init__(self, starts: Mapping[str, Start[T]], network: Network) -> None:
        self.network = network
        self.names = tuple(sorted(starts))
        self.processes = {name: _Process(name, starts[name]) for name in self.names}
        self.now, self.order = 0.0, itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.chance = np.random.default_rng(network.seed)
        self.traffic, self.told, self.living = Traffic(), list[Event](), self.names
        self.out: dict[str, float] = defaultdict(float)
        self.into: dict[str, float] = defaultdict(float)
        self.seconds = network.seconds
        self.values: dict[str, T] = {}
        self.meetings: dict[int, Together] = {}
        self.contents = Contents(self)

    def run(self) -> Outcome[T]:
        for name in self.names:
            self.after(0.0, self._begin(self.processes[name]))
        for outage in self.network.outages:
            self.after(outage.at, lambda name=outage.name: self._go(name))  # type: ignore[misc]
            if outage.until < float("inf"):
                self.after(outage.until, lambda name=outage.name: self._return(name))  # type: ignore[misc]
        while self.events and not all(one.finished for one in self.processes.values()):
            self.now, _, action = heapq.heappop(self.events)
            action()
        self._expect_all_done()
        return Outcome(
            self.values, self.now, self.seconds or 0.0, self.traffic, tuple(self.told), tuple(self.contents.holders)
        )

    def _expect_all_done(self) -> None:
        stuck = [one for one in self.processes.values() if not one.gone and not one.finished]
        if stuck:
            waits = ", ".join(f"{one.name} waits for {one.waiting}" for one in stuck[:10])
            raise PeersError(f"the run cannot go on after {self.now:.3f} s: {waits}{self._gone()}")

    def _gone(self) -> str:
        gone = [f"{event.name} went at {event.seconds:.3f} s" for event in self.told if not self.alive(event.name)]
        return "; " + ", ".join(dict.fromkeys(gone)) if gone else ""

    def alive(self, name: str) -> bool:
        """Tell whether a peer is at work or has ended well."""
        return not self.processes[name].gone

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen later."""
        heapq.heappush(self.events, (self.now + seconds, next(self.order), action))

    def _begin(self, process: _Process[T]) -> Callable[[], None]:
        def begin() -> None:
            peer, process.steps = process.start()
            peer.clock = lambda: self.now
            self.advance(process.name, None)

        return begin

    def _go(self, name: str) -> None:
        process = self.processes[name]
        if process.steps is None or process.finished:
            return
        process.steps.close()
        process.steps, process.inbox, process.gone = None, [], True
        process.life += 1
        self._tell(name, "went")
        if self.meetings:
            raise PeersError(f"the others wait for {name} in vain{self._gone()}: this protocol needs every peer")
        for other in self.names:
            if self.processes[other].waiting == _MAIL:
                self._answer_wait(other, [])

    def _return(self, name: str) -> None:
        if not self.alive(name):
            self.processes[name].gone = False
            self._tell(name, "came back")
            self._begin(self.processes[name])()

    def _tell(self, name: str, what: str) -> None:
        self.told.append(Event(self.now, name, what))
        self.living = tuple(one for one in self.names if self.alive(one))

    def advance(self, name: str, answer: Any) -> None:
        """Give a peer its answer, and do what it asks for until it must wait."""
        process = self.processes[name]
        process.waiting = ""
        while process.steps is not None:
            began = time.perf_counter()
            try:
                request = process.steps.send(answer)
            except StopIteration as end:
                process.finished, self.values[name] = True, end.value
                return
            if isinstance(request, Report) and request.batches:
                self._work(name, request.batches, time.perf_counter() - began)
                return
            if (now := self._asked(process, request)) is _LATER:
                return
            answer = now

    def waits_for(self, name: str) -> str:
        """Return what a peer waits for; nothing where it does not."""
        return self.processes[name].waiting

    def answer(self, name: str, answer: Any) -> None:
        """Give a peer the answer that it waits for, at this moment."""
        self.later(name, 0.0, answer, "its answer")

    def _work(self, name: str, batches: int, measured: float) -> None:
        """Let the time of some batches pass."""
        if self.seconds is None:
            self.seconds = measured / batches
        seconds = batches * self.seconds * self.network.stragglers.get(name, 1.0)
        self.later(name, seconds, None, "its own work")

    def later(self, name: str, seconds: float, answer: Any, what: str) -> None:
        """Answer a peer after some time, unless it has its answer by then."""
        process = self.processes[name]
        process.waits += 1
        process.waiting, wait, life = what, process.waits, process.life

        def ring() -> None:
            if (process.waits, process.life) == (wait, life) and process.waiting == what:
                self.advance(name, answer)

        self.after(seconds, ring)

    def _asked(self, process: _Process[T], request: Request) -> Any:
        """Answer a request at once, or arrange for a later answer."""
        match request:
            case Send():
                self._send(process.name, request)
            case Poll():
                return self._emptied(process)
            case Wait():
                if process.inbox:
                    return self._emptied(process)
                self.later(process.name, request.seconds, [], _MAIL)
                return _LATER
            case Mean() | Broadcast():
                self._meet(process, request)
                return _LATER
            case Peers():
                return self.living
            case Publish():
                self._publish(process.name, request)
            case Put():
                return self.contents.put(process.name, request.content)
            case Drop():
                self.contents.drop(process.name, request.address)
            case Get():
                self.contents.get(process.name, request)
                return _LATER
        return None

    def _emptied(self, process: _Process[T]) -> list[Message]:
        messages, process.inbox = process.inbox, []
        return messages

    def _send(self, sender: str, request: Send) -> None:
        if request.to not in self.processes or request.to == sender:
            raise PeersError(f"peer {sender} sends a message to {request.to!r}; wanted one of the other peers")
        values = request.message.values
        sent = replace(request.message, sender=sender, values=None if values is None else np.array(values))
        count = 0 if values is None else values.size
        self.carry(
            sender, request.to, count, message.size(sent), lambda: self._arrive(request.to, sent), request.reliable
        )

    def _arrive(self, name: str, sent: Message) -> None:
        self.processes[name].inbox.append(sent)
        if self.processes[name].waiting == _MAIL:
            self._answer_wait(name, self._emptied(self.processes[name]))

    def _answer_wait(self, name: str, messages: list[Message]) -> None:
        self.processes[name].waits += 1
        self.advance(name, messages)

    def carry(
        self, sender: str, receiver: str, values: int, size: int, arrive: Callable[[], None], reliable: bool = True
    ) -> None:
        """Take something from one end of a link to the other, or lose it."""
        network = self.network
        lost = network.loss > 0 and self.chance.random() < network.loss
        twice = not lost and network.duplication > 0 and self.chance.random() < network.duplication
        leaves = max(self.now, self.out[sender])
        self.out[sender] = leaves + size / network.bandwidth
        copies = 2 if twice else 1
        count = Count(copies, copies * values, copies * size, int(twice), int(lost), size if twice else 0)
        self.traffic.count(sender, receiver, count)
        if lost:
            if reliable:
                again = leaves - self.now + network.again
                self.after(again, lambda: self.carry(sender, receiver, values, size, arrive))
            return
        delay = network.latency + (network.jitter * self.chance.random() if network.jitter else 0.0)
        life = self.life(receiver)

        def come() -> None:
            whole = max(self.now, self.into[receiver]) + size / network.bandwidth
            self.into[receiver] = whole
            self.after(whole - self.now, lambda: arrive() if self.life(receiver) == life else None)

        self.after(leaves - self.now + delay, come)

    def life(self, name: str) -> int:
        """Return a number that changes when a peer goes."""
        return 0 if name == CENTRE else self.processes[name].life

    def _meet(self, process: _Process[T], request: Mean | Broadcast) -> None:
        """Take a peer to where all meet for one collective; the first to come opens it."""
        gone = [name for name in self.names if not self.alive(name)]
        if gone:
            raise PeersError(
                f"{process.name} waits for {gone[0]} in vain{self._gone()}: this protocol needs every peer"
            )
        number = process.calls
        process.calls += 1
        if number not in self.meetings:
            self.meetings[number] = together(request, self, lambda: self.meetings.pop(number))
        process.waiting = "the others"
        self.meetings[number].come(process.name, request)

    def _publish(self, sender: str, request: Publish) -> None:
        size = len(request.text.encode())
        if size > _MOST_PUBLISHED:
            raise PeersError(f"peer {sender} publishes {size} bytes; wanted at most {_MOST_PUBLISHED}")
        sent = Message(request.topic, text=request.text, sender=sender)
        if self.network.mesh:
            near = flood.neighbours(self.names, self.network.mesh, self.network.seed)
            flood.spread(self, near, sender, size, lambda name: self._arrive(name, sent))
            return
        for name in self.names:
            if name != sender and self.alive(name):
                self.carry(sender, name, 0, size, lambda name=name: self._arrive(name, sent), False)  # type: ignore[misc]


#: That the answer comes later.
_LATER: Any = object()
#: What a peer waits for that waits for messages.
_MAIL = "messages"
