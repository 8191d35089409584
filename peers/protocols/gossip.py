"""Gossip stochastic gradient descent: now and then, push the model and half of one's weight to a random other.

Blot, Picard, Cord and Thome 2016, "Gossip training for deep learning", arXiv 1611.09726, algorithms 3 and 4. Worker i
begins with weight alpha_i = 1/n::

    for each (x_j, alpha_j) that came:  x_i <- (alpha_j x_j + alpha_i x_i) / (alpha_j + alpha_i);  alpha_i += alpha_j
    x_i <- x_i - eta g_i(x_i)
    with probability p:  alpha_i <- alpha_i / 2;  push (x_i, alpha_i) to one of the others

The sum of alpha, what is under way included, stays 1, and so without learning does the sum of alpha x: the model that
a run ends with is that mean, and not the plain one. Nobody waits for anybody before the end.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from peers.mail import gather, is_model, polled
from peers.peer import Peer
from peers.protocols.base import LAST, within
from peers.requests import MEASUREMENT, MEMBERSHIP, POINT, Message, Report, Request, Send, Steps
from peers.requests import Peers as Alive

__all__ = ["Gossip"]

_TOPIC, _END = "gossip", "gossip-end"
#: Of all weight there is, what one peer can push: it keeps as much itself.
_MOST = 0.5


@dataclass(frozen=True)
class Gossip:
    """Push to a random other.

    Parameters
    ----------
    probability : float
        Of a push after a round.
    """

    probability: float = 1.0
    heeds: ClassVar[frozenset[str]] = LAST
    name: ClassVar[str] = "gossip"
    needs: ClassVar[frozenset[str]] = frozenset({POINT, MEMBERSHIP, MEASUREMENT})
    common: ClassVar[bool] = False

    def __post_init__(self) -> None:
        within("probability", self.probability, 0.0, 1.0)

    def __call__(self, peer: Peer) -> Steps:
        """Take in, learn, perhaps push; at the end, take in what was still under way."""
        peer.memory.setdefault("weight", 1.0 / len(peer.names))
        for round in peer.to_do:
            heard = yield from _take_in(peer)
            worked = peer.step(round)
            yield worked.report(round)
            yield from self._push(peer, round)
            yield Report(round, closed=True, counted=heard, numbers={"weight": peer.memory["weight"]})
        # What a peer pushed before it said that it is through has come when that has.
        yield from gather(peer, _END, Message(_END, peer.rounds))
        yield from _take_in(peer)

    def _push(self, peer: Peer, round: int) -> Steps:
        chance = peer.draw(round, "gossip")
        if chance.random() >= self.probability:
            return
        alive = yield Alive()
        others = [name for name in peer.others if name in alive]
        if others and peer.memory["weight"] / 2 > 0:  # who heard of nobody for a thousand pushes has nothing to give
            peer.memory["weight"] /= 2
            to = others[int(chance.integers(len(others)))]
            yield Send(to, Message(_TOPIC, round, peer.learner.vector(), peer.memory["weight"]))


def _take_in(peer: Peer) -> Generator[Request, Any, tuple[str, ...]]:
    """Mix with what came, message by message; return whose it was, with the own name."""
    came = [one for one in (yield from polled(peer, _TOPIC)) if _sound(peer, one)]
    weight = peer.memory["weight"]
    values = peer.learner.vector()
    for one in came:
        assert one.values is not None
        share = one.weight / (one.weight + weight)
        mixed = share * one.values.astype(np.float64) + (1 - share) * values.astype(np.float64)
        # More than all only liars or restarted peers can have brought together; it must not spread from here.
        values, weight = mixed.astype(peer.learner.dtype), min(weight + one.weight, 1.0)
    if came:
        peer.learner.load_vector(values)
        peer.memory["weight"] = weight
    return tuple(sorted({peer.name, *(one.sender for one in came)}))


def _sound(peer: Peer, push: Message) -> bool:
    """Tell whether a push can be mixed in; of another, the sender is told of by name."""
    if not 0 < push.weight <= _MOST:
        peer.refused(push.sender, f"a push with the weight {push.weight:g}; wanted more than 0, and {_MOST} at most")
        return False
    return is_model(peer, push)
