"""The ring all-reduce, as a generator that any engine can drive: it says what goes right and is sent what came left.

Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations", section 3: the vector
is cut into as many shards as there are peers. In n - 1 shifts each shard travels once around and is summed on its way;
in n - 1 more the finished shards travel around and are copied, so all peers end with the same bits.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from computation.errors import PeersError
from computation.wire.payload import Vector
from peers.counts import shards

__all__ = ["Ring", "divided", "expected", "mean", "ring", "weighted"]

#: Yields what to send to the right and how many values to expect from the left; is sent those.
Ring = Generator[tuple[Vector, int], Vector, Vector]


def ring(values: Vector, place: int, peers: int) -> Ring:
    """Return the sum over all peers.

    Parameters
    ----------
    values : numpy.ndarray
        This peer's, shape `(n,)`.
    place : int
        Of this peer in the ring, from 0; it sends to `place + 1`.
    peers : int
        In the ring.
    """
    total, parts = values.copy(), shards(values.size, peers)
    for shift in range(peers - 1):
        going, coming = parts[(place - shift) % peers], parts[(place - shift - 1) % peers]
        total[coming] += yield total[going], coming.stop - coming.start
    for shift in range(peers - 1):
        going, coming = parts[(place + 1 - shift) % peers], parts[(place - shift) % peers]
        total[coming] = yield total[going], coming.stop - coming.start
    return total


def expected(size: int, place: int, peers: int) -> list[int]:
    """Return how many values come in each shift of a ring over `size` values: room can be made for all beforehand."""
    sizes = [part.stop - part.start for part in shards(size, peers)]
    return [sizes[(place - shift - 1) % peers] for shift in range(2 * (peers - 1))]


def mean(values: Vector, weight: float, place: int, peers: int) -> Generator[tuple[Vector, int], Vector, Vector | None]:
    """Return the weighted mean over all peers, or nothing where all weights are zero; the weights' sum rides behind."""
    return divided((yield from ring(weighted(values, weight), place, peers)))


def weighted(values: Vector, weight: float) -> Vector:
    """Return what is summed for a mean: the values times the weight, and the weight behind."""
    return np.append(values.astype(np.float64) * weight, weight).astype(values.dtype)


def divided(total: Vector) -> Vector | None:
    """Return the mean that a sum of `weighted` makes, or nothing where all weights are zero.

    Raises
    ------
    PeersError
        If the weights cannot be: a peer lied, and who it was does not come around a ring.
    """
    if not 0 <= total[-1] < np.inf:
        raise PeersError(f"the weights of a mean over all peers come to {total[-1]}; wanted finite ones from 0")
    return total[:-1] / total[-1] if total[-1] > 0 else None
