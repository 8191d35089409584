"""What all nodes of a swarm share: a channel's name and key, and what follows from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from computation.errors import PeersError
from peers import cid

__all__ = ["Channel"]


@dataclass(frozen=True)
class Channel:
    """What all nodes of a swarm share.

    Attributes
    ----------
    name : str
        Its name.
    key : bytes
        A secret of 32 bytes or more; who has it can take part.
    """

    name: str
    key: bytes

    def __post_init__(self) -> None:
        if not self.name.isprintable() or not 0 < len(self.name) <= 100 or len(self.key) < 32:
            raise PeersError("a channel has a printable name of at most 100 letters and a key of at least 32 bytes")

    @property
    def psk(self) -> str:
        """The key of libp2p's private network, in hexadecimal."""
        return hashlib.sha256(b"coinstac-meshnet swarm\0" + self.name.encode() + b"\0" + self.key).hexdigest()

    def topic(self, name: str) -> str:
        """Return a topic's name on the network; it tells nothing of the channel's."""
        return f"{self.mark}/{name}"

    @property
    def meeting(self) -> str:
        """The address under which nodes of the channel find each other."""
        return cid.raw(b"meeting\0" + self.mark.encode())

    @property
    def mark(self) -> str:
        """A public mark of the channel."""
        return hashlib.sha256(self.psk.encode()).hexdigest()[:32]
