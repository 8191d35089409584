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
from peers.requests import Mean

__all__ = ["Ring", "check_weights", "divided", "expected", "mean", "ring", "weighted"]

#: Of a sum of a thousand weights in float32.
_ROUNDING = 1e-4

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


def mean(request: Mean, place: int, peers: int) -> Generator[tuple[Vector, int], Vector, Vector | None]:
    """Return the weighted mean over all peers, or nothing where all weights are zero; the weights' sum rides behind."""
    return divided((yield from ring(weighted(request.values, request.weight), place, peers)), request.most)


def weighted(values: Vector, weight: float) -> Vector:
    """Return what is summed for a mean: the values times the weight, and the weight behind."""
    return np.append(values.astype(np.float64) * weight, weight).astype(values.dtype)


def divided(total: Vector, most: float) -> Vector | None:
    """Return the mean that a sum of `weighted` makes, or nothing where all weights are zero.

    Raises
    ------
    PeersError
        If the weights cannot be, or come to more than `most`: a peer lied, and who it was does not come around a ring.
    """
    check_weights(float(total[-1]), most)
    return total[:-1] / total[-1] if total[-1] > 0 else None


def check_weights(total: float, most: float) -> None:
    """Refuse what all weights of a mean come to; raises `PeersError`."""
    if not 0 <= total < np.inf:
        raise PeersError(f"the weights of a mean over all peers come to {total}; wanted finite ones from 0")
    if total > most * (1 + _ROUNDING):
        raise PeersError(
            f"the weights of a mean over all peers come to {total:g}, and those that they joined with to {most:g}; "
            "some peer brings more than it said, and in a mean nobody sees which; only peers that trust each other "
            "should go on"
        )
