"""Blocks from peer to peer, in the messages of bitswap 1.2.0: a question, and its answer on the same stream.

libp2p's own client tells everybody of every block that it wants, and that it wants it no more, over streams that it
opens for that and closes; what is written onto one that closes is lost and asked for again after a second. Here who
wants blocks asks one peer, and the answer is each block, or that it is not there; or, to who asks only that, whether it
is there. To open a stream takes longer than to ask, so it stays open for the next question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
import varint
from libp2p.bitswap.pb.bitswap_pb2 import Message
from libp2p.custom_types import TProtocol

from computation.errors import PeersError
from peers.engines.p2p.buffered import Buffered
from peers.engines.p2p.counts import Counts
from peers.engines.p2p.quietly import quietly
from peers.swarm.store import Store

__all__ = ["Exchange"]

_PROTOCOL = TProtocol("/ipfs/bitswap/1.2.0")
_MOST_MESSAGE = 1 << 20
_MOST_WANTED = 256
#: Bytes of a CIDv1 with SHA-256 that stand before the digest, and of a whole one.
_PREFIX, _CID = 4, 36
_LONGEST_LENGTH = 4
#: Questions that are answered at once.
_AT_ONCE = 32
#: Seconds: for one message to be written or read, and between two questions on one stream.
_MESSAGE, _BETWEEN = 30.0, 600.0


@dataclass
class _Line:
    """A stream to one peer, where it is open, and whose turn it is to ask."""

    stream: Any = None
    turn: trio.Lock = field(default_factory=trio.Lock)


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
        self._lines: dict[Any, _Line] = {}
        host.set_stream_handler(_PROTOCOL, self._serve)

    async def ask(self, peer: Any, blocks: Sequence[bytes]) -> None:
        """Ask a peer for those blocks that are not here, and keep what comes.

        Raises
        ------
        PeersError
            If it sends what was not asked for, or the store has no room.
        Exception
            Whatever libp2p raises where the peer cannot be reached or falls silent.
        """
        line = self._lines.setdefault(peer, _Line())
        async with line.turn:
            wanted = [one for one in blocks if not self.store.has(one)][:_MOST_WANTED]
            if wanted and line.stream is not None:
                await quietly(self._asked, line, wanted)  # the other end may have closed it meanwhile
                wanted = [one for one in wanted if not self.store.has(one)] if line.stream is None else []
            if wanted:
                line.stream = Buffered(await self.host.new_stream(peer, [_PROTOCOL]))
                await self._asked(line, wanted)

    async def holds(self, peer: Any, block: bytes) -> bool:
        """Ask a peer whether it has a block; raises as `ask`."""
        line = self._lines.setdefault(peer, _Line())
        async with line.turn:
            if line.stream is None:
                line.stream = Buffered(await self.host.new_stream(peer, [_PROTOCOL]))
            message = await self._asked(line, [block], Message.Wantlist.Have)
        return any(bytes(one.cid) == block and one.type == Message.Have for one in message.blockPresences)

    async def _asked(self, line: _Line, wanted: Sequence[bytes], kind: int = Message.Wantlist.Block) -> Any:
        """Ask on a stream; one that fails is open no longer. Return the answer to who asks only whether it is there."""
        (stream, line.stream), found = (line.stream, None), None
        try:
            await _write(stream, _question(wanted, kind))
            if kind == Message.Wantlist.Have:
                found = await _read(stream)
            else:
                await self._take(stream, set(wanted))
            line.stream = stream
            return found
        finally:
            if line.stream is None:
                with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                    await stream.reset()

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
        """Answer questions until there are no more; what is none ends the stream."""
        stream = Buffered(stream)
        try:
            while True:
                message = await _read(stream, _BETWEEN)
                async with self._answering:
                    for entry in message.wantlist.entries[:_MOST_WANTED]:
                        await self._answer(stream, bytes(entry.block), entry.wantType == Message.Wantlist.Have)
        except Exception:  # the other end's affair, or it has no more questions
            await stream.reset()

    async def _answer(self, stream: Any, block: bytes, only_whether: bool) -> None:
        answer, data = Message(), self.store.get(block) if len(block) == _CID else None
        if data is None or only_whether:
            answer.blockPresences.add(cid=block, type=Message.DontHave if data is None else Message.Have)
        else:
            answer.payload.add(prefix=block[:_PREFIX], data=data)
            self.counts.sent += len(data)
        await _write(stream, answer)


def _question(wanted: Sequence[bytes], kind: int) -> Message:
    message = Message()
    for block in wanted:
        message.wantlist.entries.add(block=block, priority=1, sendDontHave=True, wantType=kind)
    return message


async def _write(stream: Any, message: Message) -> None:
    data = message.SerializeToString()
    with trio.fail_after(_MESSAGE):
        await stream.write(varint.encode(len(data)) + data)


async def _read(stream: Any, patience: float = _MESSAGE) -> Message:
    """Read a message behind its length; it may begin some time later."""
    with trio.fail_after(patience):
        first = await stream.read(1)
    with trio.fail_after(_MESSAGE):
        length, data = await _length(stream, first), bytearray()
        while len(data) < length:
            part = await stream.read(length - len(data))
            if not part:
                raise PeersError("a peer's message was cut off; wanted all of it")
            data += part
    return Message.FromString(bytes(data))


async def _length(stream: Any, head: bytes) -> int:
    while head and head[-1] & 0x80 and len(head) < _LONGEST_LENGTH:
        head += await stream.read(1) or b"\x80" * _LONGEST_LENGTH
    if not head or len(head) > _LONGEST_LENGTH or head[-1] & 0x80:
        raise PeersError("a peer's message has no length; wanted one of bitswap 1.2.0")
    length: int = varint.decode_bytes(head)
    if length > _MOST_MESSAGE:
        raise PeersError(f"a peer's message has {length} bytes; wanted at most {_MOST_MESSAGE}")
    return length
