"""Mixing by a fixed matrix: learn a step, tell the neighbours, and take the weighted mean of what they told.

Lian et al. 2017, "Can decentralized algorithms outperform centralized algorithms?", arXiv 1705.09056, algorithm 1, with
the step before the mixing: `x_i <- sum_j P[i, j] (x_j - eta g_j(x_j))`, where `P[i, j]` is the weight that receiver i
gives to what sender j sent. All wait for their neighbours in every round.

A doubly stochastic matrix keeps the mean of all models; with 1/n everywhere, every step from a common start is exact
gradient averaging for plain gradient descent. A row-stochastic one brings all to one model, too, but to the mean under
its left Perron vector, and not to the mean. A column-stochastic one keeps the sum and shrinks or swells each model: it
needs push-sum.

A neighbour's model that is many times farther from the own one than the others' is drawn nearer before the mixing, or
left out like one who is gone: see `peers.neighbours`. Only where that happens, no mean is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from computation.errors import PeersError
from computation.federation.screening import NO_BOUNDS, Bounds
from computation.wire.payload import Vector
from peers import topology
from peers.mail import collect, is_model
from peers.neighbours import clipped, near
from peers.peer import Peer
from peers.protocols import base
from peers.protocols.base import SIZES
from peers.requests import MEASUREMENT, MEMBERSHIP, POINT, Message, Report, Send, Steps
from peers.topology import Graph, Matrix

__all__ = ["Mixing"]

_TOPIC = "mixing"


@dataclass(frozen=True)
class Mixing:
    """Mix by a matrix.

    Parameters
    ----------
    kind : str
        `row` or `doubly`.
    graph : str
        A graph by its name; every peer makes it for itself from the run's seed.
    matrix : numpy.ndarray, optional
        Shape (peers, peers), instead of the one that belongs to kind and graph.
    bounds : Bounds
        Of how far a neighbour's model may be; by default none.
    """

    kind: str = "doubly"
    graph: str = "complete"
    matrix: Matrix | None = field(default=None, compare=False)
    bounds: Bounds = field(default=NO_BOUNDS, compare=False)
    heeds: ClassVar[frozenset[str]] = SIZES
    name: ClassVar[str] = "mixing"
    needs: ClassVar[frozenset[str]] = frozenset({POINT, MEMBERSHIP, MEASUREMENT})
    common: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kind == "column":
            raise PeersError(
                "a column-stochastic matrix alone makes models shrink and swell; wanted row or doubly, or push-sum"
            )
        if self.matrix is not None:
            topology.check(self.matrix, self.kind)

    def __call__(self, peer: Peer) -> Steps:
        """Learn, tell, mix; who is gone is left out, and their weight is the receiver's own."""
        graph = self._graph(peer)
        for round in peer.to_do:
            before = peer.learner.vector()
            worked = peer.step(round)
            yield worked.report(round)
            row, own = self._matrix(graph, round)[peer.index], peer.learner.vector()
            for place in graph.out(peer.index, round):
                yield Send(peer.names[place], Message(_TOPIC, round, own))
            senders = [peer.names[place] for place in graph.into(peer.index, round)]
            came = yield from collect(peer, _TOPIC, round, senders)
            sound = {name: one for name, one in came.items() if is_model(peer, one)}
            told = {name: values for name, one in sound.items() if (values := one.values) is not None}
            judged: Any = {}
            if self.bounds.any:
                done = near(peer, round, told, before, self.bounds)
                told = {one.site: one.values for one in done.kept}
                judged = {"skipped": done.refused, "clipped": clipped(done)}
            peer.learner.load_vector(_mixed(peer, row, own, told))
            yield Report(round, closed=True, counted=tuple(sorted({peer.name, *told})), **judged)

    def _graph(self, peer: Peer) -> Graph:
        if self.matrix is None:
            return base.graph(self.graph, len(peer.names), peer.seed)
        if len(self.matrix) != len(peer.names):
            raise PeersError(f"the mixing matrix is for {len(self.matrix)} peers; wanted {len(peer.names)}")
        return topology.of_matrix(self.matrix)

    def _matrix(self, graph: Graph, round: int) -> Matrix:
        return _mixing(graph, self.kind, round % len(graph.rounds)) if self.matrix is None else self.matrix


@lru_cache(maxsize=64)
def _mixing(graph: Graph, kind: str, round: int) -> Matrix:
    return topology.mixing(graph, kind, round)


def _mixed(peer: Peer, row: Matrix, own: Vector, told: dict[str, Vector]) -> Vector:
    """Return the weighted mean in the order of names, summed in float64."""
    shares = {name: float(row[peer.names.index(name)]) for name in sorted(told)}
    total = (1.0 - sum(shares.values())) * own.astype(np.float64)
    for name, share in shares.items():
        total += share * told[name].astype(np.float64)
    mixed: Vector = total.astype(own.dtype)
    return mixed
