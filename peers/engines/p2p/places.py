"""Who is where: connecting to others, and Kademlia's table of who holds what."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import multiaddr
import trio
from libp2p.bitswap.cid import cid_to_bytes
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.peerinfo import info_from_p2p_addr

from peers.engines.p2p.quietly import quietly

__all__ = ["Places"]

#: Seconds: to reach one of those who may hold a content, and one who is to be a neighbour, which takes long on a busy
#: machine and is all in vain if it is given up; to look something up, between tellings of the same.
_REACH, _JOIN, _SEARCH, _AGAIN = 5.0, 60.0, 10.0, 60.0
#: Seconds between looks for new peers: they begin with the first, and double until the second, where somebody is near;
#: while the first neighbour is being reached.
_SOON, _LATER, _REACHING = 1.0, 30.0, 0.2
#: Seconds between the first two tellings that this node is there; it is told `_AGAIN` after these.
_THERE = 8.0
#: How much longer than the telling itself the rest after it is, for each who is near and has a part in it: for what is
#: new, and for what was told before; and its least seconds, since libp2p takes 10 tellings of one node in 10 s.
_FRESH, _STALE, _REST = 3.0, 20.0, 1.0
#: Contents of others of which this node remembers who holds them.
_MOST_RECORDS = 20_000
#: Bytes of a CIDv1 before its multihash.
_MULTIHASH = 2


class Places:
    """Where others are, and who holds what, as far as this node knows or can find out.

    Telling where a content is asks much of everybody: so that is done for one content after another, with a rest.

    Parameters
    ----------
    host : libp2p.abc.IHost
        The node.
    meeting : str
        The address under which nodes of the channel find each other.
    others : sequence of str
        Addresses of nodes that may be there already.
    seed : bytes
        Of the order in which others are asked: nothing that is learned depends on it.
    """

    def __init__(self, host: Any, meeting: str, others: Sequence[str], seed: bytes) -> None:
        self.host, self.meeting = host, meeting
        self.others = [info_from_p2p_addr(multiaddr.Multiaddr(one)) for one in others]
        self.table = KadDHT(host, DHTMode.SERVER)
        self._chance = random.Random(seed)
        self._given, self._told = dict[str, None](), dict[str, None]()
        self._fresh, self._reaching = trio.Event(), set[Any]()

    def near(self, first: str = "") -> list[Any]:
        """Return who is connected, by chance, but for one who goes before all others."""
        found = list(self.host.get_connected_peers())
        self._chance.shuffle(found)
        return sorted(found, key=lambda one: str(one) != first)

    async def look(self) -> None:
        """Connect to those who were named, and to those who meet under the channel's address; for ever."""
        pause, due, rest = _SOON, -math.inf, _THERE
        async with trio.open_nursery() as nursery:
            while True:
                self._join(nursery, self.others)
                for one in self.near():
                    await quietly(self.table.add_peer, one)
                if self.near():
                    self._join(nursery, await self._found(self.meeting))
                    if trio.current_time() > due:
                        await self._tell(self.meeting)
                        due, rest = trio.current_time() + rest, _AGAIN
                    pause = min(2 * pause, _LATER)
                self._forget()
                await trio.sleep(_REACHING if self._reaching and not self.near() else pause)

    def _join(self, nursery: trio.Nursery, infos: Sequence[Any]) -> None:
        """Begin to connect to some; one of them who does not answer keeps nobody else waiting."""
        for info in infos:
            if info.peer_id not in self._reaching:
                self._reaching.add(info.peer_id)
                nursery.start_soon(self._reach, info)

    async def _reach(self, info: Any) -> None:
        try:
            await self.connect(info, _JOIN)
        finally:
            self._reaching.discard(info.peer_id)

    def _forget(self) -> None:
        """Forget the oldest of what others have told, where it is too much."""
        records = self.table.provider_store.providers
        for key in list(records)[: max(0, len(records) - _MOST_RECORDS)]:
            del records[key]

    async def connect(self, info: Any, seconds: float = _REACH) -> bool:
        """Reach somebody; tell whether he is."""
        if info.peer_id == self.host.get_id():
            return False
        if info.peer_id not in self.host.get_connected_peers():
            with trio.move_on_after(seconds):
                await quietly(self.host.connect, info)
        return info.peer_id in self.host.get_connected_peers()

    async def holders(self, address: str) -> list[Any]:
        """Find out who else holds a content; those who are connected come first."""
        there = set(self.host.get_connected_peers())
        found = [one for one in await self._found(address) if one.peer_id != self.host.get_id()]
        return sorted(found, key=lambda one: one.peer_id not in there)

    async def _found(self, address: str) -> list[Any]:
        found: list[Any] = []
        with trio.move_on_after(_SEARCH):
            found += await quietly(self.table.find_providers, address) or ()
        return found

    async def _tell(self, address: str) -> None:
        with trio.move_on_after(_SEARCH):
            await quietly(self.table.provide, address)

    def give(self, address: str) -> None:
        """Let others find a content here, soon."""
        self._told.pop(address, None)
        self._given[address] = None
        self._fresh.set()

    def withdraw(self, address: str) -> None:
        """Tell no longer of a content."""
        self._given.pop(address, None)
        self._told.pop(address, None)
        self.table.provider_store.providing_keys.discard(cid_to_bytes(address)[_MULTIHASH:])

    async def tell(self) -> None:
        """Tell of each content where it is, for ever: who joined, or took over a part of the table, hears of it."""
        while True:
            with trio.move_on_after(_AGAIN):
                await self._fresh.wait()
            if not self._given:
                await self._tell_again()
            self._fresh = trio.Event()
            while self._given:
                address = next(iter(self._given))
                self._told[address] = self._given.pop(address)
                await self._rested(address, _FRESH)

    async def _tell_again(self) -> None:
        for address in list(self._told):
            if self._given:
                return
            if address in self._told:
                await self._rested(address, _STALE)

    async def _rested(self, address: str, times: float) -> None:
        began = trio.current_time()
        await self._tell(address)
        took = trio.current_time() - began
        await trio.sleep(max(_REST, times * took * len(self.host.get_connected_peers())))
