"""The same small runs for every engine: synchronous protocols, whose result does not hang on who comes when."""

import numpy as np
from quadratic import Quadratic

from computation.strategies.fedavg import FedAvg
from computation.strategies.gradient_mean import GradientMean
from peers.mail import gather
from peers.peer import Peer
from peers.protocols.centred import Centred
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum
from peers.protocols.ring_broadcast import RingBroadcast
from peers.requests import Message


def pushed(peer):
    """Push sums, and stay until all are through, as in a whole run: who leaves is no longer in the others' graph."""
    yield from PushSum()(peer)
    yield from gather(peer, "through", Message("through", peer.rounds))


PROTOCOLS = {
    "gradients": Centred(GradientMean()),
    "fedavg": Centred(FedAvg(), clients=0.5),
    "ring": RingBroadcast(3),
    "mixing": Mixing("row", "ring"),
    "push-sum": pushed,
}


def peer(names, place, patience=60.0):
    """Return one of several peers that start elsewhere and are drawn elsewhere."""
    start, target = np.random.default_rng([place, 31]).normal(size=(2, 11))
    weights = {name: 1.0 + index for index, name in enumerate(names)}
    return Peer(names[place], weights, Quadratic(start, target, 0.1), 7, seed=5, patience=patience)
