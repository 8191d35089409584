"""Any strategy of the computation, by one mean over all peers: gradient averaging and federated averaging.

The same verbs as on COINSTAC: contribute, combine, apply. What the centre does there, `Mean` does here; nobody sees
what a single peer sent, so nobody can screen it.

With `clients` below 1 only some peers work in a round, `m = max(ceil(C n), 1)` of the n that train, drawn alike by all:
McMahan et al. 2017, arXiv 1602.05629, algorithm 1. Their mean is normalised by the weights of those m.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from computation.errors import ContributionError, MeshNetError, PeersError
from computation.federation import claims
from computation.strategies import Combined, Strategy
from computation.strategies.remembering import recall, remember
from computation.wire.payload import Vector
from peers.peer import Peer, Worked
from peers.protocols.base import within
from peers.requests import COLLECTIVE, MEASUREMENT, Mean, Report, Steps

__all__ = ["Centred", "apply", "contribution"]

_STATE = "strategy"


@dataclass(frozen=True)
class Centred:
    """Average what a strategy contributes.

    Parameters
    ----------
    strategy : Strategy
        What is contributed and how its mean is applied. Each peer has a copy, whose state is kept in its memory.
    clients : float
        Share of the peers that train that work in a round.
    """

    strategy: Strategy
    clients: float = 1.0
    name: ClassVar[str] = "centred"
    needs: ClassVar[frozenset[str]] = frozenset({COLLECTIVE, MEASUREMENT})
    common: ClassVar[bool] = True

    def __post_init__(self) -> None:
        within("clients", self.clients, 0.0, 1.0)

    def __call__(self, peer: Peer) -> Steps:
        """Average in every round; a round in which nobody could contribute changes nothing."""
        strategy = copy.deepcopy(self.strategy)
        recall(strategy, peer.memory, peer.memory.get(_STATE, {}))
        for round in peer.to_do:
            taking = self._drawn(peer, round)
            worked, values = contribution(peer, strategy, round) if peer.name in taking else _nothing(peer)
            yield worked.report(round)
            most = sum(peer.weights[name] for name in taking)
            mean: Vector | None = yield Mean(values, peer.weights[peer.name] if worked.samples else 0.0, most)
            if mean is not None:
                apply(peer, strategy, Combined(round, taking, worked.loss or 0.0, mean))
                arrays, plain = remember(strategy)
                peer.memory.update(arrays | {_STATE: plain})
            yield Report(round, closed=True, counted=taking if mean is not None else ())

    def _drawn(self, peer: Peer, round: int) -> tuple[str, ...]:
        """Return who works in a round, sorted."""
        able = [name for name in peer.names if peer.weights[name] > 0]
        count = max(math.ceil(self.clients * len(able)), 1)
        if count >= len(able):
            return tuple(able)
        drawn = peer.draw(round, "clients", common=True).choice(len(able), count, replace=False)
        return tuple(able[index] for index in sorted(drawn))


def contribution(peer: Peer, strategy: Strategy, round: int) -> tuple[Worked, Vector]:
    """Return what a peer brings to a round, or nothing, of weight 0, where it fails or does not train."""
    if not peer.trains:
        return _nothing(peer)
    learner: Any = peer.learner  # strategies ask for a Trainer and use no more of it than `Learner` has
    try:
        values, loss, samples = strategy.contribute(learner, round)
    except Exception as error:  # one round of one peer is not worth everybody's run
        peer.failed(round, error)
        return _nothing(peer)
    return Worked(peer.learner.batches, samples, loss), values


def apply(peer: Peer, strategy: Strategy, combined: Combined) -> None:
    """Bring a peer's model to the end of a round.

    Raises
    ------
    PeersError
        If no network can compute with the mean: a peer sent what cannot be. It is the same at all, so all end here.
    """
    try:
        if not np.isfinite(combined.values).all():
            raise ContributionError("it holds values that are NaN or infinite")
        claims.check_values(peer.learner.manifest, combined.values)
    except MeshNetError as error:
        raise PeersError(
            f"nothing can be learnt from the mean over all peers in round {combined.round}: {error.public}; some peer "
            "sent what cannot be, and in a mean nobody sees which; only peers that trust each other should go on"
        ) from error
    learner: Any = peer.learner
    strategy.apply(learner, combined)


def _nothing(peer: Peer) -> tuple[Worked, Vector]:
    return Worked(), np.zeros(peer.learner.manifest.size, peer.learner.dtype)
