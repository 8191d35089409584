"""Peers over ZeroMQ: each binds a ROUTER that takes in, and has a DEALER to each other; CURVE keys on all of them.

A message is one of `peers.message`, in the state of CloudMesh's `PayloadMessage`. Who is silent for longer than the
lease is dead: a thread of its own sends signs of life, so that a peer which computes is not silent. ZeroMQ connects
again by itself; what was on its way when a link broke may be lost, as everywhere.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import zmq

from computation.errors import MessageError, PeersError
from peers import message
from peers.mesh import letters, post
from peers.mesh.keys import Known, Pair
from peers.peer import Peer
from peers.requests import (
    MEASUREMENT,
    MEMBERSHIP,
    POINT,
    Message,
    Peers,
    Poll,
    Report,
    Request,
    Send,
    Steps,
    Wait,
    driven,
)
from peers.traffic import Count, Traffic

__all__ = ["NAME", "OFFERS", "Group", "Options", "joined"]

NAME = "zeromq"
OFFERS = frozenset({MEASUREMENT, MEMBERSHIP, POINT})

_BEAT, _BYE = "beat", "bye"
#: Signs of life in a lease.
_SIGNS = 4
#: Messages of one sender that may lie unread, and that may wait to be sent.
_MOST_WAITING = 256
#: Bytes that a letter adds to a message.
_ENVELOPE = 4096
_MOST_VALUES_BYTES = 1 << 30


@dataclass(frozen=True)
class Options:
    """Who the peers are and where.

    Attributes
    ----------
    pair : Pair
        Of this peer.
    known : Known
        Public keys of all.
    addresses : dict of str
        Where each peer listens, by name; this one too.
    run : str
        Name of the run, the same at all.
    name : str
        Of this peer; the key pair's by default.
    keys : dict of bytes
        Public key of each peer's node, by peer, where they are not of the peers' own names: one node may have several
        peers, who are told apart by where they listen.
    lease : float
        Seconds of silence after which a peer is dead.
    grace : float
        Seconds in which a peer may be late at the start.
    longest : int
        Bytes of a message; no model of the run may need more.
    """

    pair: Pair
    known: Known
    addresses: Mapping[str, str]
    run: str
    lease: float = 10.0
    grace: float = 60.0
    longest: int = _MOST_VALUES_BYTES
    name: str = ""
    keys: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def own(self) -> str:
        """Name of this peer."""
        return self.name or self.pair.name

    def key(self, peer: str) -> bytes:
        """Return the key of a peer's node; raises `PeersError` if it is not known."""
        return self.keys.get(peer) or self.known.key(peer)


@dataclass(eq=False)
class _Link:
    """What is known of one other peer."""

    name: str
    origin: tuple[str, str]
    socket: Any
    heard: float
    unread: int = 0
    gone: bool = False
    began: bool = False


@dataclass(eq=False)
class Group:
    """All peers of a run, seen by one of them.

    Attributes
    ----------
    name : str
        Of this one.
    run_name : str
        The run's.
    traffic : Traffic
        What this peer sent.
    """

    name: str
    run_name: str
    traffic: Traffic
    _options: Options
    _links: dict[str, _Link] = field(default_factory=dict)
    _box: deque[tuple[str, bytes]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _over: threading.Event = field(default_factory=threading.Event)
    #: A socket must not be used by two threads at once.
    _sending: threading.Lock = field(default_factory=threading.Lock)

    # What comes in

    def handle(self, name: str, came: Any) -> None:
        """Take in one letter of a node with this name; called by the server's thread."""
        origin = name, came.senderIpAddress
        link = next((one for one in self._links.values() if one.origin == origin), None)
        if link is None:
            raise MessageError(f"a message of {name} came, who is none of this run's peers; wanted one of them")
        with self._changed:
            link.heard, link.began, returned = time.monotonic(), True, link.gone
            link.gone = False
            kind = came.WhichOneof("payload")
            if kind == "acknowledgement":
                link.gone = came.acknowledgement.note == _BYE
            elif kind != "modelStateDictParams":
                raise MessageError(f"{name} sent a {kind} in the middle of a run; wanted a message of its protocol")
            elif link.unread < _MOST_WAITING:
                link.unread += 1
                self._box.append((link.name, came.modelStateDictParams.state))
            if kind != "acknowledgement" or link.gone or returned:
                self._changed.notify_all()

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of those who are there, as far as is known, or of whom something lies here unread; sorted."""
        now = time.monotonic()
        there = [
            link.name for link in self._links.values() if link.unread or not (link.gone or self._silent(link, now))
        ]
        return tuple(sorted([*there, self.name]))

    def _silent(self, link: _Link, now: float) -> bool:
        return now - link.heard > (self._options.lease if link.began else self._options.grace)

    # What goes out

    def connect(self, context: Any) -> None:
        """Make the way to each other peer."""
        options = self._options
        for name, address in sorted(options.addresses.items()):
            if name != self.name:
                key = options.key(name)
                socket = post.dealer(context, options.pair, address, key, options.longest)
                socket.linger, socket.sndhwm = int(1000 * min(options.lease, 5.0)), _MOST_WAITING
                self._links[name] = _Link(name, (options.known.name(key), address), socket, time.monotonic())

    def beat(self) -> None:
        """Send signs of life until the end."""
        while not self._over.wait(self._options.lease / _SIGNS):
            self._tell_all(_BEAT)
            with self._changed:  # a silence may have become a death
                self._changed.notify_all()

    def _tell_all(self, note: str) -> None:
        for name in self._links:
            self._post(name, letters.letter(self._options.pair.name, self._address, acknowledgement={"note": note}))

    @property
    def _address(self) -> str:
        return self._options.addresses[self.name]

    def _post(self, name: str, letter: Any) -> bool:
        blob = letter.SerializeToString()
        with self._sending:
            try:
                self._links[name].socket.send(blob, zmq.NOBLOCK)
            except zmq.Again:
                return False
        return True

    def leave(self) -> None:
        """Say goodbye to all."""
        self._over.set()
        self._tell_all(_BYE)

    # A protocol's requests

    def run(self, peer: Peer, steps: Steps) -> Any:
        """Perform a peer's protocol to its end and return its result.

        Raises
        ------
        PeersError
            If the peer is none of this group, its model is larger than a message may be, or it asks for what this
            engine does not carry.
        """
        names = tuple(sorted(self._options.addresses))
        if (peer.names, peer.name) != (names, self.name):
            raise PeersError(f"peer {peer.name} of {', '.join(peer.names)} runs as {self.name} of {', '.join(names)}")
        longest = message.longest(peer.learner.manifest, peer.learner.dtype) + _ENVELOPE
        if longest > self._options.longest:
            raise PeersError(f"a message of this run may have {longest} bytes; wanted at most {self._options.longest}")
        return driven(steps, lambda request: self._perform(peer, request))

    def _perform(self, peer: Peer, request: Request) -> Any:
        match request:
            case Send():
                return self._send(peer, request)
            case Poll():
                return self._taken(peer, 0.0)
            case Wait(seconds):
                return self._taken(peer, seconds)
            case Peers():
                return self.alive
            case Report():
                return None
        raise PeersError(f"engine {NAME} does not carry {request.kind}; wanted one of {', '.join(sorted(OFFERS))}")

    def _send(self, peer: Peer, request: Send) -> None:
        if request.to not in self._links:
            raise PeersError(f"a message is for {request.to}, who is none of the other peers")
        told = request.message
        blob = message.encode(told, peer.learner.manifest, self.name, self.run_name)
        state = {"state": blob, "complete": False}
        if self._post(request.to, letters.letter(self._options.pair.name, self._address, modelStateDictParams=state)):
            values = 0 if told.values is None else told.values.size
            self.traffic.count(self.name, request.to, Count(1, values, len(blob)))
        elif request.reliable and request.to in self.alive:
            raise PeersError(f"{request.to} takes no more messages, and one that must not be lost is for it")

    def _taken(self, peer: Peer, seconds: float) -> list[Message]:
        """Return the sound messages that have come; wait for the first, but no longer when a peer goes."""
        deadline, before, found = time.monotonic() + seconds, self.alive, list[Message]()
        while not found:
            with self._changed:
                left = deadline - time.monotonic()
                self._changed.wait_for(
                    lambda: self._box or self.alive != before, min(max(left, 0), threading.TIMEOUT_MAX)
                )
                taken, gone = list(self._box), self.alive != before
                self._box.clear()
                for link in self._links.values():
                    link.unread = 0
            for sender, blob in taken:
                if one := message.received(blob, peer, sender, self.run_name):
                    found.append(one)
            if gone or time.monotonic() >= deadline:
                break
        return found


@contextmanager
def joined(options: Options) -> Iterator[Group]:
    """Listen where the others expect this peer, and connect with all of them; they may come later.

    Raises
    ------
    PeersError
        If the own address cannot be listened on, or a key is not known.
    """
    name = options.own
    if name not in options.addresses:
        raise PeersError(f"peer {name} has no address; the addresses are of {', '.join(sorted(options.addresses))}")
    own = options.addresses[name]
    group = Group(name, options.run, Traffic(), options)
    context = zmq.Context()
    group.connect(context)
    host, port = post.host_of(own), int(own.rpartition(":")[2])
    server = post.Server(options.pair, options.known, group.handle, host=host, port=port, longest=options.longest)
    beats = threading.Thread(target=group.beat, daemon=True)
    try:
        if server.address != own:
            raise PeersError(f"{own} is taken; wanted the address that the others were told")
        beats.start()
        yield group
    finally:
        group.leave()
        if beats.ident:
            beats.join()
        context.destroy()
        server.close()
