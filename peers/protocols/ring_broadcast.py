"""Decentralised training with a centralised parameter update: average gradients, and now and then copy one worker.

S. Raja, "Decentralized distributed deep learning with a centralised parameter update", MSc thesis, University of Texas
at Arlington, 2019. In every step the mean of the workers' gradients, by a ring all-reduce where the engine's mean is
one, then each worker's own optimiser step; every tau steps worker 0's parameters and batch-norm statistics for all.

With equal starts, one optimiser and deterministic kernels the broadcast changes nothing; it repairs what drifted apart
nevertheless, batch-norm statistics above all, which are averaged only under policy `sync`. What it removed is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from computation.errors import PeersError
from computation.strategies import Combined
from computation.strategies.gradient_mean import GradientMean
from computation.wire.payload import Vector
from peers.learners import take_whole, whole
from peers.peer import Peer
from peers.protocols.centred import apply, contribution
from peers.requests import COLLECTIVE, MEASUREMENT, Broadcast, Mean, Report, Steps

__all__ = ["RingBroadcast"]


@dataclass(frozen=True)
class RingBroadcast:
    """Average gradients and broadcast parameters.

    Parameters
    ----------
    tau : int
        Rounds between two broadcasts, from 1.
    """

    tau: int = 10
    name: ClassVar[str] = "ring-broadcast"
    needs: ClassVar[frozenset[str]] = frozenset({COLLECTIVE, MEASUREMENT})
    common: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.tau < 1:
            raise PeersError(f"option tau is {self.tau}; wanted a whole number of rounds from 1")

    def __call__(self, peer: Peer) -> Steps:
        """Average in every round, broadcast in every tau-th."""
        strategy = GradientMean()
        counted = tuple(name for name in peer.names if peer.weights[name] > 0)
        for round in peer.to_do:
            worked, values = contribution(peer, strategy, round)
            yield worked.report(round)
            weight = peer.weights[peer.name] if worked.samples else 0.0
            mean: Vector | None = yield Mean(values, weight, sum(peer.weights.values()))
            if mean is not None:
                apply(peer, strategy, Combined(round, counted, worked.loss or 0.0, mean))
            numbers = {}
            if round % self.tau == 0:
                own = whole(peer.learner)
                first: Vector = yield Broadcast(own, counted[0])
                take_whole(peer.learner, first)
                numbers["drift"] = float(np.abs(own - first).max(initial=0.0))
            yield Report(round, closed=True, counted=counted if mean is not None else (), numbers=numbers)
