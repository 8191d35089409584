"""What the gossip study compares, each with the iterations that it reports and those that are done here by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from computation.strategies.fedavg import FedAvg
from computation.strategies.gradient_mean import GradientMean
from peers import topology
from peers.protocols.base import Rule
from peers.protocols.centred import Centred
from peers.protocols.gossip import Gossip
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum

__all__ = ["ARMS", "WORKERS", "Arm"]

WORKERS, CLIENTS = 8, 100


@dataclass(frozen=True)
class Arm:
    """One experiment.

    Attributes
    ----------
    name : str
        As the command line has it.
    rule : callable
        Makes its protocol of the run's seed.
    paper, usual : int
        Iterations of the paper, and by default here: no more than one core does in about half an hour.
    unit : str
        What iterations are.
    peers : int
        How many.
    noise : float
        Standard deviation of what links add to each value.
    shared : bool
        Whether every peer learns from all pictures; else each has its share of each class.
    batch, epochs : int
        Pictures in a batch; a peer's passes over its own pictures in an iteration, 0 for one batch.
    """

    name: str
    rule: Callable[[int], Rule]
    paper: int = 1500
    usual: int = 1000
    unit: str = "batches"
    peers: int = WORKERS
    noise: float = 0.0
    shared: bool = True
    batch: int = 128
    epochs: int = 0


def _row(seed: int) -> Mixing:
    """Return mixing by a matrix of uniform numbers, each row divided by its sum."""
    return Mixing("row", matrix=topology.drawn(WORKERS, "row", np.random.default_rng(seed)))


#: The paper gives its two strengths of noise in a figure only, without numbers.
ARMS = {
    arm.name: arm
    for arm in (
        Arm("centralised", lambda seed: Centred(GradientMean()), 7820, 7820, peers=1),
        Arm("gosgd", lambda seed: Gossip(1.0)),
        Arm("doubly", lambda seed: Mixing("doubly", "complete")),
        Arm("row", _row),
        Arm("row-noise-0.01", _row, noise=0.01),
        Arm("row-noise-0.1", _row, noise=0.1),
        Arm("push-sum", lambda seed: PushSum("exponential")),
        Arm("gosgd-shares", lambda seed: Gossip(1.0), 70, 20, "local epochs", shared=False, epochs=1),
        Arm(
            "fedavg",
            lambda seed: Centred(FedAvg(), clients=0.1),
            150,
            40,
            "rounds",
            peers=CLIENTS,
            shared=False,
            batch=50,
            epochs=5,
        ),
    )
}
