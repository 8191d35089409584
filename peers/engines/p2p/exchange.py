"""Blocks from peer to peer, in the messages of bitswap 1.2.0: one question is one stream to one peer.

libp2p's own client tells everybody of every block that it wants, and that it wants it no more, over streams that it
opens for that and closes; what is written onto one that closes is lost and asked for again after a second. Here who
wants blocks asks one peer, and the answer on the same stream is each block, or that it is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import trio
import varint
from libp2p.bitswap.pb.bitswap_pb2 import Message
from libp2p.custom_types import TProtocol

from computation.errors import PeersError
from peers.engines.p2p.counts import Counts
from peers.swarm.store import Store

__all__ = ["Exchange"]

_PROTOCOL = TProtocol("/ipfs/bitswap/1.2.0")
_MOST_MESSAGE = 1 << 20
_MOST_WANTED = 256
#: Bytes of a CIDv1 with SHA-256 that stand before the digest, and of a whole one.
_PREFIX, _CID = 4, 36
#: Questions that are answered at once, and seconds after which a silent stream ends.
_AT_ONCE, _IDLE = 32, 30.0


class Exchange:
    """A node's blocks, given to who asks, and asked of others.

    Parameters
    ----------
    host : libp2p.abc.IHost
        The node.
    store : Store
        Of its blocks.
    counts : Counts
        To count in.
    """

    def __init__(self, host: Any, store: Store, counts: Counts) -> None:
        self.host, self.store, self.counts = host, store, counts
        self._answering = trio.CapacityLimiter(_AT_ONCE)
        host.set_stream_handler(_PROTOCOL, self._serve)

    async def ask(self, peer: Any, blocks: Sequence[bytes]) -> bool:
        """Ask a peer for blocks, keep those that come, and tell whether all are here.

        Raises
        ------
        PeersError
            If it sends what was not asked for, or the store has no room.
        Exception
            Whatever libp2p raises where the peer cannot be reached or falls silent.
        """
        wanted = [one for one in blocks if not self.store.has(one)][:_MOST_WANTED]
        if not wanted:
            return True
        stream = await self.host.new_stream(peer, [_PROTOCOL])
        try:
            await _write(stream, _question(wanted))
            await self._take(stream, set(wanted))
            await stream.close()
        except BaseException:
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await stream.reset()
            raise
        return all(map(self.store.has, blocks))

    async def _take(self, stream: Any, wanted: set[bytes]) -> None:
        """Read until each block has come, or was said not to be there."""
        while wanted:
            message = await _read(stream)
            for part in message.payload:
                self._keep(bytes(part.prefix), bytes(part.data), wanted)
            wanted -= {bytes(one.cid) for one in message.blockPresences}
            if not message.payload and not message.blockPresences:
                raise PeersError("a peer answers with nothing; wanted each block, or that it lacks it")

    def _keep(self, prefix: bytes, data: bytes, wanted: set[bytes]) -> None:
        block = prefix + hashlib.sha256(data).digest()
        if block not in wanted:
            raise PeersError("a peer sends a block that was not asked for; wanted the bytes of the address")
        self.counts.took(len(data), self.store.put(block, data))
        wanted.discard(block)

    async def _serve(self, stream: Any) -> None:
        """Answer one question; what is none ends the stream."""
        try:
            async with self._answering:
                message = await _read(stream)
                for entry in message.wantlist.entries[:_MOST_WANTED]:
                    await self._answer(stream, bytes(entry.block))
                await stream.close()
        except Exception:  # the other end's affair
            await stream.reset()

    async def _answer(self, stream: Any, block: bytes) -> None:
        answer, data = Message(), self.store.get(block) if len(block) == _CID else None
        if data is None:
            answer.blockPresences.add(cid=block, type=Message.DontHave)
        else:
            answer.payload.add(prefix=block[:_PREFIX], data=data)
            self.counts.sent += len(data)
        await _write(stream, answer)


def _question(wanted: Sequence[bytes]) -> Message:
    message = Message()
    for block in wanted:
        message.wantlist.entries.add(block=block, priority=1, sendDontHave=True)
    return message


async def _write(stream: Any, message: Message) -> None:
    data = message.SerializeToString()
    with trio.fail_after(_IDLE):
        await stream.write(varint.encode(len(data)) + data)


async def _read(stream: Any) -> Message:
    """Read a message behind its length."""
    with trio.fail_after(_IDLE):
        length = await _length(stream)
        data = bytearray()
        while len(data) < length:
            part = await stream.read(length - len(data))
            if not part:
                raise PeersError("a peer's message was cut off; wanted all of it")
            data += part
    return Message.FromString(bytes(data))


async def _length(stream: Any) -> int:
    head = b""
    while not head or head[-1] & 0x80:
        part = await stream.read(1)
        if not part or len(head) >= 4:
            raise PeersError("a peer's message has no length; wanted one of bitswap 1.2.0")
        head += part
    length: int = varint.decode_bytes(head)
    if length > _MOST_MESSAGE:
        raise PeersError(f"a peer's message has {length} bytes; wanted at most {_MOST_MESSAGE}")
    return length
