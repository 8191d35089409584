"""How much is said: closed forms of communication, the ring's chunks, and how long a link takes for it.

Values are numbers of a flat vector. Every function says whose traffic it counts, one worker's or the whole system's,
and counts what is sent, once; the same values are received by somebody.

`central`, `ring` and `ring_broadcast` are the three forms of S. Raja, MSc thesis, University of Texas at Arlington
(2019), table 5.1. They have different units there: over the whole system a ring sends exactly as much as a star, and
its gain is that no link carries more than `ring` while the centre's carries all of `central`. With the broadcast it
always sends more than without.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from computation.errors import PeersError

__all__ = [
    "Link",
    "central",
    "ring",
    "ring_broadcast",
    "ring_broadcast_whole",
    "ring_sent",
    "ring_whole",
    "shards",
]


def central(values: int, workers: int, steps: int = 1) -> int:
    """Count what the whole system sends where one of the workers is the centre: gradients there, parameters back."""
    return 2 * values * (workers - 1) * steps


def ring(values: int, workers: int, steps: int = 1) -> float:
    """Count what one worker sends in a ring all-reduce; a mean over workers where they do not divide the values."""
    return 2 * values * (workers - 1) * steps / workers


def ring_whole(values: int, workers: int, steps: int = 1) -> int:
    """Count what the whole system sends in a ring all-reduce: as much as with a centre."""
    return 2 * values * (workers - 1) * steps


def ring_broadcast(values: int, workers: int, steps: int = 1) -> float:
    """Count as published: what one worker sends in the ring, plus what the whole system sends in one broadcast."""
    return ring(values, workers, steps) + values * (workers - 1)


def ring_broadcast_whole(values: int, workers: int, steps: int = 1) -> int:
    """Count what the whole system sends in the ring and in one broadcast, whether that is a star or a tree."""
    return ring_whole(values, workers, steps) + values * (workers - 1)


def shards(size: int, parts: int) -> list[slice]:
    """Cut something into contiguous parts.

    Parameters
    ----------
    size : int
        Of the whole.
    parts : int
        How many; where there are more than `size`, the last ones are empty.

    Returns
    -------
    list of slice
        In order, without gap or overlap. Their sizes differ by at most one; the larger ones come first.

    Raises
    ------
    PeersError
        If there are no parts, or less than nothing to cut.
    """
    if parts < 1 or size < 0:
        raise PeersError(
            f"{size} things cannot be cut into {parts} parts; wanted at least 0 things and at least 1 part"
        )
    small, larger = divmod(size, parts)
    edges = [part * small + min(part, larger) for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def ring_sent(size: int, workers: int, worker: int) -> int:
    """Count what one worker sends in one ring all-reduce over `shards`, exactly, for any size.

    Worker `i` starts with chunk `i` and sends to worker `i + 1`. While summing it sends every chunk but `i + 1`, of
    which it then holds the sum; while sharing it sends every chunk but `i + 2`, which its neighbour holds already.

    Parameters
    ----------
    size : int
        Values of the vector.
    workers : int
        In the ring.
    worker : int
        Its place, from 0.

    Returns
    -------
    int
        `2 * size` less the two chunks. Over all workers it sums to `ring_whole(size, workers)`.
    """
    sizes = [len(range(size)[chunk]) for chunk in shards(size, workers)]
    return 2 * size - sizes[(worker + 1) % workers] - sizes[(worker + 2) % workers]


@dataclass(frozen=True)
class Link:
    """A network in which all links are alike and nothing disturbs them; computing takes no time.

    Attributes
    ----------
    round_trip : float
        Seconds there and back; a message without content arrives after half of it.
    bandwidth : float
        Bits per second, of each peer's own link and in each direction.
    """

    round_trip: float
    bandwidth: float

    def push(self, size: float) -> float:
        """Return the seconds until `size` bytes have come from one peer to another: a round of one-peer gossip."""
        return self.round_trip / 2 + 8 * size / self.bandwidth

    def ring(self, size: float, workers: int) -> float:
        """Return the seconds of a ring all-reduce of `size` bytes: `2 (workers - 1)` hops after each other."""
        return 2 * (workers - 1) * self.push(size / workers)

    def star(self, size: float, workers: int) -> float:
        """Return the seconds of a round with a centre, whose one link carries `size` bytes from and to every worker."""
        return self.round_trip + 2 * workers * 8 * size / self.bandwidth
