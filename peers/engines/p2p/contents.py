"""Contents by their CID, of one block or of many: kept here, or fetched from who has them.

A block has at most 512 KiB in bitswap; so content of more than one block is a tree of one level, whose root lists its
leaves, in the form that IPFS gives to files.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import trio
from libp2p.bitswap.cid import CODEC_RAW, cid_to_bytes, cid_to_text, compute_cid_v1
from libp2p.bitswap.dag_pb import balanced_layout, decode_dag_pb

from computation.errors import PeersError
from peers.cid import is_address
from peers.deadlines import Deadline
from peers.engines.p2p.counts import Counts
from peers.engines.p2p.exchange import Exchange
from peers.engines.p2p.places import Places
from peers.engines.p2p.quietly import quietly
from peers.requests import Get, Put
from peers.swarm.store import Store

__all__ = ["Contents"]

_BLOCK = 500_000
#: Of one content: 174 leaves, the most that one root lists.
_MOST_LEAVES = 174
#: Leaves that one peer is asked for at once.
_LEAVES = 8
#: Contents that are fetched at once, lasting ones and others; who is near and asked before anybody is looked up. More
#: at once are slower: each waits for the others on a busy machine, and all ask again.
_LASTING, _BRIEF, _NEAR = 4, 2, 8
#: Seconds until another is asked as well, beyond what is usual, and at most.
_HEDGE, _LONGEST_HEDGE = 3.0, 20.0
#: Seconds between rounds of asking, which double, and at most; for what is fetched in the background; and between two
#: counts of holders for each pair of neighbours.
_PAUSE, _LONGEST_PAUSE, _LONGEST, _COUNT = 0.5, 8.0, 60.0, 10.0

#: Neighbours who are asked whether they hold what is counted.
_MOST_ASKED = 20

_binary = functools.lru_cache(8192)(cid_to_bytes)


class Contents:
    """What a node keeps and fetches.

    Parameters
    ----------
    store : Store
        Of its blocks.
    exchange : Exchange
        By which others are asked.
    places : Places
        Who they are.
    nursery : trio.Nursery
        For what goes on beside.
    counts : Counts
        To count in.
    """

    def __init__(self, store: Store, exchange: Exchange, places: Places, nursery: trio.Nursery, counts: Counts) -> None:
        self.store, self.exchange, self.places = store, exchange, places
        self.nursery, self.counts = nursery, counts
        self._fetching, self._counted = set[str](), -math.inf
        self._room = {True: trio.CapacityLimiter(_LASTING), False: trio.CapacityLimiter(_BRIEF)}
        self._usual = Deadline(_HEDGE)

    def put(self, request: Put) -> str:
        """Keep a content; return its address; raises `PeersError` if it is too long or finds no room."""
        content = request.content
        if len(content) > _BLOCK * _MOST_LEAVES:
            raise PeersError(f"a content of {len(content)} bytes; wanted at most {_BLOCK * _MOST_LEAVES}")
        blocks = _blocks(content)
        for block, data in blocks.items():
            self.store.put(block, data, pinned=True)
        address: str = cid_to_text(next(iter(blocks)))
        if request.lasting:
            self.places.give(address)
        return address

    def drop(self, address: str) -> None:
        """Keep a content no longer."""
        if not is_address(address):
            return
        self.places.withdraw(address)
        root = _binary(address)
        for one in [*self._listed(root), root]:
            self.store.drop(one)

    async def get(self, request: Get) -> bytes | None:
        """Return a content that is here, or comes in time; with no time, let it be fetched beside."""
        if (content := self.whole(request.address)) is not None or not is_address(request.address):
            return content
        if request.seconds:
            await self._fetch(request, request.seconds)
            return self.whole(request.address)
        if request.address not in self._fetching:
            self._fetching.add(request.address)
            self.nursery.start_soon(self._fetch, request, _LONGEST)
        return None

    def fetches(self, address: str) -> bool:
        """Tell whether a content is on its way, or waits for its turn; any thread may ask."""
        return address in self._fetching

    def whole(self, address: str) -> bytes | None:
        """Return a content all of whose blocks are here; any thread may ask."""
        if not is_address(address):
            return None
        root = _binary(address)
        if not self.store.has(root):
            return None
        if _is_raw(root):
            return self.store.get(root)
        parts = [self.store.get(leaf) for leaf in self._listed(root)]
        return b"".join(part for part in parts if part is not None) if parts and None not in parts else None

    def _listed(self, root: bytes) -> list[bytes]:
        """Return what a root lists; nothing where it is none."""
        try:
            return self._leaves(root)
        except PeersError:
            return []

    def _leaves(self, root: bytes) -> list[bytes]:
        """Return what a root lists; nothing for content of one block. A tree of trees is none of ours."""
        block = self.store.get(root)
        if block is None or _is_raw(root):
            return []
        try:
            leaves = [link.cid for link in decode_dag_pb(block)[0]]
        except Exception as error:  # of many kinds
            raise PeersError("a content's root is none; wanted a list of blocks", repr(error)) from None
        if len(leaves) > _MOST_LEAVES or not all(map(_is_raw, leaves)):
            raise PeersError(f"a content is no list of at most {_MOST_LEAVES} blocks; wanted one")
        return leaves

    async def _fetch(self, request: Get, seconds: float) -> None:
        self._fetching.add(request.address)
        try:
            with trio.move_on_after(seconds):
                async with self._room[request.lasting]:
                    await quietly(self._fetch_all, request)
        finally:
            self._fetching.discard(request.address)

    async def _fetch_all(self, request: Get) -> None:
        if request.lasting and trio.current_time() - self._counted > _COUNT * max(1.0, len(self.places.near()) / 2):
            self._counted = math.inf  # until this count is done
            self.nursery.start_soon(self._count_holders, request.address)
        root = _binary(request.address)
        await self._ask_around([root], request)
        leaves = self._leaves(root)
        for first in range(0, len(leaves), _LEAVES):
            await self._ask_around(leaves[first : first + _LEAVES], request)
        for one in [root, *leaves]:
            self.store.pin(one)
        if request.lasting:
            self.places.give(request.address)

    async def _ask_around(self, blocks: Sequence[bytes], request: Get) -> None:
        """Ask who is said to have them, some who are near, who is found to have them, the rest; until they are here.

        Looking up in the table takes dozens of streams, and asking a neighbour none: so only what is told of there, and
        none of these has, is looked up.
        """
        pause = _PAUSE
        while not self._have(blocks):
            near = self.places.near(request.holder)
            await self._ask_each(near[:_NEAR], blocks)
            if request.lasting and not self._have(blocks):
                holders = await self.places.holders(request.address)
                await self._ask_each([one.peer_id for one in holders if await self.places.connect(one)], blocks)
                await self._ask_each(near[_NEAR:], blocks)
            if not self._have(blocks):
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _have(self, blocks: Sequence[bytes]) -> bool:
        return all(map(self.store.has, blocks))

    async def _ask_each(self, peers: Sequence[Any], blocks: Sequence[bytes]) -> None:
        """Ask one after another; who takes long is left to go on, and the next is asked as well.

        Nobody's sending is ever cut short when another was faster: a stream that was written by half is of no more use.
        """
        said, heard = trio.open_memory_channel[Any](math.inf)

        async def ask(one: Any) -> None:
            began = trio.current_time()
            await quietly(self.exchange.ask, one, blocks)
            self._usual.note(trio.current_time() - began)
            said.send_nowait(one)

        for one in peers:
            if self._have(blocks):
                return
            self.nursery.start_soon(ask, one)
            with trio.move_on_after(self._hedge()):
                while await heard.receive() != one and not self._have(blocks):
                    pass

    def _hedge(self) -> float:
        """Return the seconds after which an answer is late: where all are slow, asking more of them helps nobody."""
        return min(self._usual.seconds, _LONGEST_HEDGE) if math.isfinite(self._usual.seconds) else _HEDGE

    async def _count_holders(self, address: str) -> None:
        """Find out, for the measure of resilience, how many hold what is fetched; not for all where there are many."""
        try:
            asked = self.places.near()[:_MOST_ASKED]
            near = {one for one in asked if await quietly(self.exchange.holds, one, _binary(address))}
            others = {one.peer_id for one in await self.places.holders(address)}
            self.counts.holders.append(len(near | others))
        finally:
            self._counted = trio.current_time()


def _blocks(content: bytes) -> dict[bytes, bytes]:
    """Return a content's blocks by CID, the root first."""
    parts = [content[at : at + _BLOCK] for at in range(0, len(content), _BLOCK)] or [b""]
    leaves = {bytes(compute_cid_v1(part, codec=CODEC_RAW)): part for part in parts}
    if len(parts) == 1:
        return leaves
    listed = [(bytes(compute_cid_v1(part, codec=CODEC_RAW)), None, len(part)) for part in parts]
    root, listing, _ = balanced_layout(listed)
    return {bytes(root): listing, **leaves}


def _is_raw(block: bytes) -> bool:
    return block[:2] == bytes([1, int(CODEC_RAW)])
