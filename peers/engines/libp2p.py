"""Peers on libp2p: small notes by gossipsub, content by bitswap, who has it by Kademlia.

libp2p runs on trio, in a thread of its own; a protocol runs outside and asks it. So fetching and giving go on while the
protocol trains. Everybody on the channel shares a key, without which no connection comes about (libp2p's private
networks), and within it each connection is encrypted for its two ends (Noise) and each note signed by its author.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.tools.anyio_service import background_trio_service

from computation.errors import PeersError
from peers.engines.p2p.contents import Contents
from peers.engines.p2p.counts import Counts
from peers.engines.p2p.exchange import Exchange
from peers.engines.p2p.notes import Notes, router
from peers.engines.p2p.places import Places
from peers.requests import (
    CONTENT,
    MEASUREMENT,
    MEMBERSHIP,
    POINT,
    PUBSUB,
    Drop,
    Get,
    Message,
    Peers,
    Poll,
    Publish,
    Put,
    Report,
    Request,
    Wait,
    driven,
)
from peers.swarm.channel import Channel
from peers.swarm.store import Store

__all__ = ["OFFERS", "Wire", "run"]

T = TypeVar("T")

OFFERS = frozenset({CONTENT, MEASUREMENT, MEMBERSHIP, POINT, PUBSUB})

_MOST_WAITING = 8192
#: Seconds: to start, to end, and for two nodes to agree on a connection or on what a stream is for: on a busy machine
#: that takes long.
_START, _END, _AGREE = 60.0, 10.0, 60.0
_PATIENT = ConnectionConfig(
    dial_timeout=_AGREE,
    inbound_upgrade_timeout=_AGREE,
    outbound_upgrade_timeout=_AGREE,
    inbound_stream_protocol_negotiation_timeout=_AGREE,
    outbound_stream_protocol_negotiation_timeout=_AGREE,
)
_CANNOT_LISTEN = "the node cannot listen: the port is taken, or the address is another machine's; name another one"


class Wire:
    """One node on the network; a context manager.

    Parameters
    ----------
    channel : Channel
        Which swarm.
    store : Store
        Of its blocks.
    topics : sequence of str
        To listen to.
    identity : bytes
        32 bytes; equal ones make the same node. Others know it by a name that follows from them.
    host, port : str and int
        Where to listen; port 0 takes a free one.
    others : sequence of str
        Addresses of nodes that may be there already, `/ip4/.../tcp/.../p2p/...`.

    Attributes
    ----------
    aside : dict
        By topic, who takes its notes at once, in libp2p's thread, instead of the protocol when it asks.

    Raises
    ------
    PeersError
        If it cannot start.
    """

    def __init__(
        self,
        channel: Channel,
        store: Store,
        topics: Sequence[str],
        identity: bytes,
        host: str = "127.0.0.1",
        port: int = 0,
        others: Sequence[str] = (),
    ) -> None:
        if not 0 <= port <= 65535:
            raise PeersError(f"port {port} cannot be; wanted 1 to 65535, or 0 for a free one")
        self.channel, self.store, self.topics = channel, store, tuple(topics)
        self.others = tuple(map(_address, others))
        self.counts, self.name, self.address = Counts(), "", ""
        self.aside: dict[str, Callable[[Message], None]] = {}
        self._listen, self._identity = _place(host, port), identity
        self._inbox: queue.Queue[Message] = queue.Queue(_MOST_WAITING)
        self._ready, self._fault = threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._main, name="libp2p", daemon=True)

    def __enter__(self) -> Wire:
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it tells of every closed stream as of an error
        logging.getLogger().addFilter(_worth_telling)
        self._refuse_taken_port()
        self._thread.start()
        if not self._ready.wait(_START) or self._fault:
            detail = repr(self._fault[0]) if self._fault else f"nothing in {_START:g} s"
            raise PeersError(_CANNOT_LISTEN, detail)
        return self

    def _refuse_taken_port(self) -> None:
        """Find out what libp2p does not tell: it listens where another does, and half of the calls go there."""
        host, port = self._listen.value_for_protocol("ip4"), int(self._listen.value_for_protocol("tcp"))
        try:
            with socket.socket() as probe:
                probe.bind((host, port))
        except OSError as error:
            raise PeersError(_CANNOT_LISTEN, repr(error)) from None

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._token.run_sync_soon(self._stop.cancel)
            self._thread.join(_END)

    # From the protocol's thread.

    def perform(self, request: Request) -> Any:
        """Do what a protocol asks for, and return the answer."""
        match request:
            case Poll():
                return self._emptied()
            case Wait():
                return self._waited(request.seconds)
            case Report():
                return None
            case Peers():
                return self._ask(self._peers)
            case Publish():
                return self._ask(self.notes.tell, self.channel.topic(request.topic), request.text)
            case Put():
                return self._ask(_soon, self.contents.put, request)
            case Get():
                return self._got(request)
            case Drop():
                return self._ask(_soon, self.contents.drop, request.address)
        raise PeersError(f"engine libp2p does not carry {type(request).__name__.lower()}")

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if not self._thread.is_alive():
            detail = repr(self._fault[0]) if self._fault else ""
            raise PeersError("the node is off the network; start it again", detail)
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def _got(self, request: Get) -> Any:
        """Answer a question; libp2p's thread, which has enough to do, hears of it only where it has to act."""
        if not request.seconds and self._thread.is_alive():
            content = self.contents.whole(request.address)
            if content is not None or self.contents.fetches(request.address):
                return content
        return self._ask(self.contents.get, request)

    def _emptied(self) -> list[Message]:
        found = list[Message]()
        while len(found) < _MOST_WAITING:
            try:
                found.append(self._inbox.get_nowait())
            except queue.Empty:
                break
        return found

    def _waited(self, seconds: float) -> list[Message]:
        try:
            first = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return []
        return [first, *self._emptied()]

    # In libp2p's thread.

    def _main(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as error:
            self._fault.append(error)
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.CancelScope()
        keys = create_new_key_pair(self._identity)
        self.host = new_host(
            key_pair=keys, listen_addrs=[self._listen], psk=self.channel.psk, connection_config=_PATIENT
        )
        with self._stop:
            async with self.host.run([self._listen]), trio.open_nursery() as nursery:
                await self._serve(nursery)

    async def _serve(self, nursery: trio.Nursery) -> None:
        self.name, gossip = str(self.host.get_id()), router()
        self.notes = Notes(self.host, gossip, self.counts)
        self.places = Places(self.host, self.channel.meeting, self.others, self._identity)
        exchange = Exchange(self.host, self.store, self.counts)
        self.contents = Contents(self.store, exchange, self.places, nursery, self.counts)
        async with (
            background_trio_service(self.notes),
            background_trio_service(gossip),
            background_trio_service(self.places.table),
        ):
            await self.notes.wait_until_ready()
            for topic in self.topics:
                heard = await self.notes.subscribe(self.channel.topic(topic))
                nursery.start_soon(self.notes.hear, heard, topic, self.name, self._arrived)
            nursery.start_soon(self.places.look)
            nursery.start_soon(self.places.tell)
            self.address = f"{self.host.get_transport_addrs()[0]}/p2p/{self.name}"
            self._ready.set()
            await trio.sleep_forever()

    def _arrived(self, message: Message) -> None:
        self.aside.get(message.topic, self._inbox.put_nowait)(message)

    async def _peers(self) -> tuple[str, ...]:
        return tuple(sorted({self.name, *map(str, self.host.get_connected_peers())}))


def run(steps: Generator[Request, Any, T], wire: Wire, told: Callable[[Report], None] = lambda report: None) -> T:
    """Perform a protocol's requests on the network until it ends; `told` hears of its reports."""

    def perform(request: Request) -> Any:
        if isinstance(request, Report):
            told(request)
        return wire.perform(request)

    return driven(steps, perform)


async def _soon(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Leave out what libp2p says outside its own logger, of each caller whose address it has not yet."""
    return not str(record.msg).startswith("Error getting transport addresses")


def _place(host: str, port: int) -> Any:
    try:
        return multiaddr.Multiaddr(f"/ip4/{host}/tcp/{port}")
    except Exception as error:  # of many kinds
        raise PeersError(f"{host[:80]!r} is no address to listen at; wanted one of IPv4", repr(error)) from None


def _address(text: str) -> str:
    """Return another node's address, if it is one."""
    try:
        address = multiaddr.Multiaddr(text)
        address.value_for_protocol("p2p")
        address.value_for_protocol("tcp")
    except Exception as error:  # of many kinds
        wanted = "wanted /ip4/HOST/tcp/PORT/p2p/NAME, as the other node prints it"
        raise PeersError(f"{text[:120]!r} is no address of a node; {wanted}", repr(error)) from None
    return text
