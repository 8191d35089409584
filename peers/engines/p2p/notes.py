"""Small notes by gossipsub: every one is signed by its author, and passed on by whoever hears it first."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub

from computation.errors import PeersError
from peers.engines.p2p.buffered import Buffered
from peers.engines.p2p.counts import Counts
from peers.requests import Message

__all__ = ["MOST_PUBLISHED", "Notes", "router"]

#: A gossipsub RPC of more than 1 MiB vanishes without an error; notes stay far below.
MOST_PUBLISHED = 65_536
_MOST_RPC = 1 << 20
_PROTOCOL = TProtocol("/meshsub/1.1.0")


class Notes(Pubsub):  # type: ignore[misc]
    """Pubsub that counts what comes, and what comes again.

    Parameters
    ----------
    host : libp2p.abc.IHost
        The node.
    gossip : GossipSub
        From `router`.
    counts : Counts
        To count in.
    """

    def __init__(self, host: Any, gossip: GossipSub, counts: Counts) -> None:
        super().__init__(host, gossip, max_inbound_rpc_size=_MOST_RPC)
        self.counts = counts

    async def continuously_read_stream(self, stream: Any) -> None:
        """Read notes for ever; the library calls this."""
        await super().continuously_read_stream(Buffered(stream))

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Take a note from the network; the library calls this."""
        if msg_forwarder != self.my_id:
            self.counts.took(len(msg.data), self._is_msg_seen(msg))
        await super().push_msg(msg_forwarder, msg)

    async def tell(self, topic: str, text: str) -> None:
        """Publish; raises `PeersError` if it is too long."""
        data = text.encode()
        if len(data) > MOST_PUBLISHED:
            raise PeersError(f"a note of {len(data)} bytes; wanted at most {MOST_PUBLISHED}")
        await self.publish(topic, data)

    async def hear(self, heard: Any, topic: str, own: str, keep: Callable[[Message], None]) -> None:
        """Pass on for ever what others publish on a topic; what is no text, or finds no room, is dropped."""
        while True:
            note = await heard.get()
            sender = str(ID(note.from_id))
            if sender == own or len(note.data) > MOST_PUBLISHED:
                continue
            try:
                keep(Message(topic, text=note.data.decode(), sender=sender))
            except (queue.Full, UnicodeDecodeError):
                continue


def router() -> GossipSub:
    """Return a router for few nodes: with the usual degree of 6 a mesh of three would never be full.

    Each note costs every node of a machine some milliseconds for each neighbour that passes it on, so these are few.
    """
    return GossipSub(
        protocols=[_PROTOCOL],
        degree=3,
        degree_low=1,
        degree_high=4,
        heartbeat_interval=1,
        heartbeat_initial_delay=0.1,
        eclipse_protection_enabled=False,  # several nodes of one machine have one address
        max_messages_per_topic_per_second=200.0,
        max_pending_messages_per_peer=2000,
        prune_back_off=5,
        unsubscribe_back_off=2,
    )
