"""Peers on libp2p: small notes by gossipsub, content by bitswap, who has it by Kademlia.

libp2p runs on trio, in a thread of its own; a protocol runs outside and asks it. So fetching and giving go on while the
protocol trains. Everybody on the channel shares a key, without which no connection comes about (libp2p's private
networks), and within it each connection is encrypted for its two ends (Noise) and each note signed by its author.

What limits the sizes: a gossipsub RPC of more than 1 MiB vanishes without an error, a block has at most 512 KiB. So
notes have at most 64 kB, and content of more than one block is a tree of one level, whose root lists its leaves.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import multiaddr
import trio
from libp2p import new_host
from libp2p.bitswap.block_store import BlockStore
from libp2p.bitswap.cid import CODEC_RAW, cid_to_bytes, cid_to_text, verify_cid
from libp2p.bitswap.client import BitswapClient
from libp2p.bitswap.dag import MerkleDag
from libp2p.bitswap.dag_pb import decode_dag_pb
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from computation.errors import PeersError
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

__all__ = ["OFFERS", "Counts", "Wire", "run"]

T = TypeVar("T")

OFFERS = frozenset({CONTENT, MEASUREMENT, MEMBERSHIP, POINT, PUBSUB})

_MOST_PUBLISHED = 65_536
_BLOCK = 500_000
#: Of one content: 174 leaves, the most that one root lists.
_MOST_LEAVES = 174
_MOST_WAITING = 8192
#: Nodes that are asked for a block at once.
_RACE = 3
#: Looks for others at the beginning that follow each other quickly; later ones are rarer by as many times.
_EAGER = 10
#: Seconds: to start, for one peer to give a block, between looks for new peers, between re-provisions.
_START, _PEER, _LOOK, _AGAIN = 20.0, 5.0, 1.0, 30.0
_CANNOT_LISTEN = "the node cannot listen: the port is taken, or the address is another machine's; name another one"
_PUBSUB = TProtocol("/meshsub/1.1.0")


@dataclass
class Counts:
    """What a node has received.

    Attributes
    ----------
    received : int
        Bytes of blocks and of notes.
    again : int
        Of them, what was here already.
    holders : list of int
        How many others were known to hold a content that it asked for.
    """

    received: int = 0
    again: int = 0
    holders: list[int] = field(default_factory=list)


class _Blocks(BlockStore):  # type: ignore[misc]
    """The store as bitswap sees it."""

    def __init__(self, store: Store, counts: Counts) -> None:
        self.store, self.counts = store, counts
        self.own = False  # whether what comes is this node's own

    async def get_block(self, cid: Any) -> bytes | None:
        return self.store.get(cid_to_bytes(cid))

    async def put_block(self, cid: Any, data: bytes) -> None:
        known = self.store.put(cid_to_bytes(cid), data)
        if not self.own:
            self.counts.received += len(data)
            self.counts.again += len(data) if known else 0

    async def has_block(self, cid: Any) -> bool:
        return self.store.has(cid_to_bytes(cid))

    async def delete_block(self, cid: Any) -> None:
        self.store.drop(cid_to_bytes(cid))

    def get_all_cids(self) -> list[bytes]:
        return self.store.cids()


class _Notes(Pubsub):  # type: ignore[misc]
    """Pubsub that counts what comes, and what comes again."""

    counts: Counts

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        if msg_forwarder != self.my_id:
            self.counts.received += len(msg.data)
            self.counts.again += len(msg.data) if self._is_msg_seen(msg) else 0
        await super().push_msg(msg_forwarder, msg)


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
        self.channel, self.store, self.topics, self.others = channel, store, tuple(topics), tuple(others)
        self.counts, self.name, self.address = Counts(), "", ""
        self._listen, self._identity = multiaddr.Multiaddr(f"/ip4/{host}/tcp/{port}"), identity
        self._inbox: queue.Queue[Message] = queue.Queue(_MOST_WAITING)
        self._ready, self._fault = threading.Event(), list[BaseException]()
        self._fetching: set[str] = set()
        self._given: dict[str, None] = {}
        self.chance = random.Random(identity)  # whom to ask first: nothing that is learned depends on it
        self._thread = threading.Thread(target=self._main, name="libp2p", daemon=True)

    def __enter__(self) -> Wire:
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it tells of every closed stream as of an error
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
            self._thread.join(10.0)

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
                return self._ask(self._publish, request)
            case Put():
                return self._ask(self._put, request.content)
            case Get():
                return self._ask(self._get, request)
            case Drop():
                return self._ask(self._drop, request.address)
        raise PeersError(f"engine libp2p does not carry {type(request).__name__.lower()}")

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if not self._thread.is_alive():
            detail = repr(self._fault[0]) if self._fault else ""
            raise PeersError("the node is off the network; start it again", detail)
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

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
        self.host = new_host(key_pair=keys, listen_addrs=[self._listen], psk=self.channel.psk)
        with self._stop:
            async with self.host.run([self._listen]), trio.open_nursery() as self._nursery:
                await self._serve()

    async def _serve(self) -> None:
        self.name = str(self.host.get_id())
        self.router, self.blocks = _gossip(), _Blocks(self.store, self.counts)
        self.notes = _Notes(self.host, self.router, max_inbound_rpc_size=1 << 20)
        self.notes.counts = self.counts
        self.table = KadDHT(self.host, DHTMode.SERVER)
        self.bitswap = BitswapClient(self.host, block_store=self.blocks)
        self.bitswap.set_nursery(self._nursery)
        self.dag = MerkleDag(self.bitswap)
        async with (
            background_trio_service(self.notes),
            background_trio_service(self.router),
            background_trio_service(self.table),
        ):
            await self.notes.wait_until_ready()
            await self.bitswap.start()
            for topic in self.topics:
                heard = await self.notes.subscribe(self.channel.topic(topic))
                self._nursery.start_soon(self._hear, topic, heard)
            self._nursery.start_soon(self._look)
            self._nursery.start_soon(self._provide_again)
            self.address = f"{self.host.get_transport_addrs()[0]}/p2p/{self.name}"
            self._ready.set()
            await trio.sleep_forever()

    async def _hear(self, topic: str, heard: Any) -> None:
        while True:
            note = await heard.get()
            sender = _named(note.from_id)
            if sender == self.name or len(note.data) > _MOST_PUBLISHED:
                continue
            try:
                self._inbox.put_nowait(Message(topic, text=note.data.decode(), sender=sender))
            except (queue.Full, UnicodeDecodeError):  # nobody can be made to keep more, or to read what is no text
                continue

    async def _look(self) -> None:
        """Connect to those who were named, and to those who meet under the channel's address."""
        for look in itertools.count():
            for address in self.others:
                await self._connect(info_from_p2p_addr(multiaddr.Multiaddr(address)))
            for one in self.host.get_connected_peers():
                await _quietly(self.table.add_peer, one)
            if self.host.get_connected_peers() and (look < _EAGER or look % _EAGER == 0):
                await _quietly(self.table.provide, self.channel.meeting)
                for info in await _quietly(self.table.find_providers, self.channel.meeting) or ():
                    await self._connect(info)
            await trio.sleep(_LOOK)

    async def _connect(self, info: Any) -> bool:
        if info.peer_id == self.host.get_id():
            return False
        if info.peer_id in self.host.get_connected_peers():
            return True
        with trio.move_on_after(_PEER):
            await _quietly(self.host.connect, info)
        return info.peer_id in self.host.get_connected_peers()

    async def _provide_again(self) -> None:
        """Tell again what is here: whoever joined, or took over a part of the table, hears of it."""
        while True:
            await trio.sleep(_AGAIN)
            for address in list(self._given):
                await _quietly(self.table.provide, address)

    async def _peers(self) -> tuple[str, ...]:
        return tuple(sorted({self.name, *map(str, self.host.get_connected_peers())}))

    async def _publish(self, request: Publish) -> None:
        data = request.text.encode()
        if len(data) > _MOST_PUBLISHED:
            raise PeersError(f"a note of {len(data)} bytes; wanted at most {_MOST_PUBLISHED}")
        await self.notes.publish(self.channel.topic(request.topic), data)

    async def _put(self, content: bytes) -> str:
        if len(content) > _BLOCK * _MOST_LEAVES:
            raise PeersError(f"a content of {len(content)} bytes; wanted at most {_BLOCK * _MOST_LEAVES}")
        self.blocks.own = True
        try:
            root: bytes = await self.dag.add_bytes(content, chunk_size=_BLOCK)
        finally:
            self.blocks.own = False
        for one in [root, *self._leaves(root)]:
            self.store.pin(one)
        address: str = cid_to_text(root)
        self._give(address)
        return address

    def _give(self, address: str) -> None:
        self._given[address] = None
        self._nursery.start_soon(_quietly, self.table.provide, address)

    async def _drop(self, address: str) -> None:
        self._given.pop(address, None)
        root = cid_to_bytes(address)
        for one in [*self._leaves(root), root]:
            self.store.drop(one)

    def _leaves(self, root: bytes) -> list[bytes]:
        """Return what a root lists; nothing for content of one block. A tree of trees is none of ours."""
        block = self.store.get(root)
        if block is None or _is_raw(root):
            return []
        leaves = [link.cid for link in decode_dag_pb(block)[0]]
        if len(leaves) > _MOST_LEAVES or not all(map(_is_raw, leaves)):
            raise PeersError(f"a content is no list of at most {_MOST_LEAVES} blocks; wanted one")
        return leaves

    async def _get(self, request: Get) -> bytes | None:
        if (content := self._whole(request.address)) is not None:
            return content
        if not request.seconds:
            if request.address not in self._fetching:
                self._nursery.start_soon(self._fetch, request.address, 60.0)
            return None
        await self._fetch(request.address, request.seconds)
        return self._whole(request.address)

    def _whole(self, address: str) -> bytes | None:
        """Return a content all of whose blocks are here."""
        root = cid_to_bytes(address)
        if not self.store.has(root):
            return None
        if _is_raw(root):
            return self.store.get(root)
        try:
            leaves = self._leaves(root)
        except (PeersError, ValueError):
            return None
        blocks = [block for leaf in leaves if (block := self.store.get(leaf)) is not None]
        return b"".join(blocks) if len(blocks) == len(leaves) else None

    async def _fetch(self, address: str, seconds: float) -> None:
        self._fetching.add(address)
        try:
            with trio.move_on_after(seconds):
                await _quietly(self._fetch_all, address)
        finally:
            self._fetching.discard(address)

    async def _fetch_all(self, address: str) -> None:
        root = cid_to_bytes(address)
        self._nursery.start_soon(self._count_holders, address)
        await self._block(root, address)
        for leaf in self._leaves(root):
            await self._block(leaf, address)
        for one in [root, *self._leaves(root)]:
            self.store.pin(one)
        self._give(address)

    async def _block(self, block: bytes, address: str) -> None:
        """Get one block from whoever gives it first: some who are connected are asked at once, holders when found.

        Nobody's sending is ever cut short when another was faster: a stream that was written by half is of no more use.
        """
        while not self.store.has(block):
            came, near = trio.Event(), list(self.host.get_connected_peers())
            for one in self.chance.sample(near, min(_RACE, len(near))):
                self._nursery.start_soon(self._from, block, one, came)
            self._nursery.start_soon(self._from_holders, block, address, came)
            with trio.move_on_after(_PEER):
                await came.wait()

    async def _from_holders(self, block: bytes, address: str, came: trio.Event) -> None:
        for one in (await self._holders(address))[:_RACE]:
            if not came.is_set() and await self._connect(one):
                self._nursery.start_soon(self._from, block, one.peer_id, came)

    async def _count_holders(self, address: str) -> None:
        self.counts.holders.append(len(await self._holders(address)))

    async def _holders(self, address: str) -> list[Any]:
        found = await _quietly(self.table.find_providers, address) or []
        there = set(self.host.get_connected_peers())
        return sorted(
            (one for one in found if one.peer_id != self.host.get_id()), key=lambda one: one.peer_id not in there
        )

    async def _from(self, block: bytes, holder: Any, came: trio.Event) -> None:
        content = await _quietly(self.bitswap.new_session().get_block, block, holder, _PEER)
        if content is not None and verify_cid(block, content):  # bitswap has looked; so do we
            came.set()
        elif content is not None:
            self.store.drop(block)


def run(steps: Generator[Request, Any, T], wire: Wire, told: Callable[[Report], None] = lambda report: None) -> T:
    """Perform a protocol's requests on the network until it ends; `told` hears of its reports."""

    def perform(request: Request) -> Any:
        if isinstance(request, Report):
            told(request)
        return wire.perform(request)

    return driven(steps, perform)


def _gossip() -> GossipSub:
    """Return a router for few nodes: with the usual degree of 6 a mesh of three would never be full."""
    return GossipSub(
        protocols=[_PUBSUB],
        degree=4,
        degree_low=1,
        degree_high=8,
        heartbeat_interval=1,
        heartbeat_initial_delay=0.1,
        eclipse_protection_enabled=False,  # several nodes of one machine have one address
        max_messages_per_topic_per_second=200.0,
        max_pending_messages_per_peer=2000,
        prune_back_off=5,
        unsubscribe_back_off=2,
    )


def _named(identity: bytes) -> str:
    from libp2p.peer.id import ID

    return str(ID(identity))


def _is_raw(block: bytes) -> bool:
    return block[:2] == bytes([1, int(CODEC_RAW)])


async def _quietly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call of the network's returns; nothing where the other end fails it, in whatever way."""
    try:
        return await function(*arguments)
    except Exception:
        return None
