"""Stochastic gradient push: each peer pushes shares of its sum and of its weight, and learns at their ratio.

Assran, Loizou, Ballas and Rabbat 2019, "Stochastic gradient push for distributed deep learning", arXiv 1811.10792,
algorithm 1; push-sum after Kempe, Dobra and Gehrke 2003. Worker i begins with w_i = 1 and x_i = z_i::

    x_i <- x_i - eta g_i(z_i);  send P[j, i] x_i and P[j, i] w_i to every out-neighbour j
    x_i <- sum_j P[i, j] x_j;  w_i <- sum_j P[i, j] w_j;  z_i <- x_i / w_i

Every sender shares out all that it has, itself included, so P is column-stochastic, and the sums of x and of w stay on
any strongly connected graph, one-way links and all: z tends to the mean. A row-stochastic P would leave every w at 1,
and then nothing is corrected; so there is no choice of a kind here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from computation.errors import PeersError
from computation.wire.payload import Vector
from peers.mail import collect, is_model
from peers.peer import Peer
from peers.protocols import base
from peers.requests import MEASUREMENT, MEMBERSHIP, POINT, Message, Report, Request, Send, Steps
from peers.requests import Peers as Alive

__all__ = ["PushSum"]

_TOPIC = "push-sum"
#: A weight below it would blow up rounding errors of what it divides.
_LEAST = 1e-12


@dataclass(frozen=True)
class PushSum:
    """Push sums.

    Parameters
    ----------
    graph : str
        By its name; every peer makes it for itself from the run's seed.
    """

    graph: str = "exponential"
    heeds: ClassVar[frozenset[str]] = base.LAST
    name: ClassVar[str] = "push-sum"
    needs: ClassVar[frozenset[str]] = frozenset({POINT, MEMBERSHIP, MEASUREMENT})
    common: ClassVar[bool] = False

    def __call__(self, peer: Peer) -> Steps:
        """Learn at z, push shares of x and w, add what came; who is gone is no longer in the graph.

        What went to such a peer would be lost in every round: the weights would tend to 0, and steps over them grow.
        So whoever is through must stay until all are, as the last mean of a whole run sees to.
        """
        memory, dtype = peer.memory, peer.learner.dtype
        memory.setdefault("sum", peer.learner.vector().astype(np.float64))
        memory.setdefault("weight", 1.0)
        for round in peer.to_do:
            before = peer.learner.vector()
            worked = peer.step(round)
            yield worked.report(round)
            half = memory["sum"] + _moved(peer, before)
            names = yield from _living(peer)
            graph, index = base.graph(self.graph, len(names), peer.seed), names.index(peer.name)
            out = graph.out(index, round)
            share = 1 / (len(out) + 1)
            for place in out:
                message = Message(_TOPIC, round, (share * half).astype(dtype), share * memory["weight"])
                yield Send(names[place], message)
            senders = [names[place] for place in graph.into(index, round)]
            came = yield from collect(peer, _TOPIC, round, senders)
            told = {name: one for name, one in came.items() if _sound(peer, one)}
            memory["sum"], memory["weight"] = share * half, share * memory["weight"]
            for name in sorted(told):
                memory["sum"] = memory["sum"] + told[name].values
                memory["weight"] += told[name].weight
            peer.learner.load_vector(_ratio(memory["sum"], memory["weight"], dtype))
            numbers = {"weight": memory["weight"]}
            yield Report(round, closed=True, counted=tuple(sorted({peer.name, *told})), numbers=numbers)


def _moved(peer: Peer, before: Vector) -> NDArray[np.float64]:
    """Return the step that this round's learning took, as it is to be added to the sum.

    A gradient step is added as it is, as in the paper; batch-norm statistics are no step but new values, and the sum
    holds them times the weight.
    """
    step: NDArray[np.float64] = peer.learner.vector().astype(np.float64) - before.astype(np.float64)
    if place := peer.learner.parts.get("statistics"):
        step[place] *= peer.memory["weight"]
    return step


def _living(peer: Peer) -> Generator[Request, Any, tuple[str, ...]]:
    """Return the names of those who are there, sorted."""
    alive: tuple[str, ...] = yield Alive()
    if len(alive) == len(peer.names):
        return peer.names
    there = set(alive)
    return tuple(name for name in peer.names if name in there)


def _ratio(total: NDArray[np.float64], weight: float, dtype: np.dtype[np.floating]) -> Vector:
    if weight < _LEAST:
        raise PeersError(f"a push-sum weight fell to {weight}: nobody pushed to this peer for too long; start anew")
    ratio: Vector = (total / weight).astype(dtype)
    return ratio


def _sound(peer: Peer, push: Message) -> bool:
    """Tell whether a push can be added: its ratio, too, is to be a model; of another, the sender is told of by name."""
    if push.refused:
        return False
    if push.values is None or push.weight < _LEAST:
        peer.refused(push.sender, f"a push without a model, or with the weight {push.weight:g}; wanted {_LEAST:g}")
        return False
    return is_model(peer, push, push.values.astype(np.float64) / push.weight)
