"""A learner whose closed forms are known: it goes downhill on half the squared distance to a point of its own."""

from dataclasses import dataclass

import numpy as np
from flat import Flat

from computation.training.trainer import Gradient, LocalResult
from computation.wire.payload import Manifest
from peers.peer import Peer


class Quadratic(Flat):
    """Plain gradient descent on `|x - target|^2 / 2`; with a rate of 0 it never moves by itself."""

    batches = 1

    def __init__(self, start, target=None, rate=0.0, dtype=np.float64):
        super().__init__(Manifest((("x", (len(start),)),)), dtype, start)
        self.target = np.zeros(len(start)) if target is None else np.asarray(target, float)
        self.rate = rate
        self.steps = 0

    @property
    def parts(self):
        return {"parameters": slice(0, self.manifest.size)}

    def _slope(self):
        return (self._values - self.target).astype(self.dtype)

    def gradient(self, round):
        return Gradient(self._loss(), 1, 1, (), self._slope())

    def apply_gradient(self, mean, round):
        self.load_vector((self._values - self.rate * mean).astype(self.dtype))

    def local_steps(self, round):
        loss = self._loss()
        self.steps += 1
        self.apply_gradient(self._slope(), round)
        return LocalResult(loss, 1, 1, ())

    def _loss(self):
        return float(((self._values - self.target) ** 2).sum() / 2)

    def state(self):
        return {"model": self._values}, {}

    def load_state(self, arrays, values):
        self.load_vector(arrays["model"])


@dataclass
class Cohort:
    """Peers for an engine, and what they hold."""

    peers: dict

    def starts(self, protocol, wrapped=lambda steps, peer: steps):
        def start(peer):
            return lambda: (peer, wrapped(protocol(peer), peer))

        return {name: start(peer) for name, peer in self.peers.items()}

    def vectors(self):
        return np.array([self.peers[name].learner.vector() for name in sorted(self.peers)])

    def weights(self):
        return np.array([self.peers[name].memory.get("weight", 1.0) for name in sorted(self.peers)])


def cohort(starts, targets=None, *, rate=0.0, rounds=1, weights=None, seed=0, dtype=np.float64, patience=60.0):
    """Return peers p0000, p0001, ... with these starting points."""
    names = [f"p{index:04d}" for index in range(len(starts))]
    weights = dict(zip(names, weights if weights is not None else [1.0] * len(names), strict=True))
    peers = {}
    for index, name in enumerate(names):
        learner = Quadratic(starts[index], None if targets is None else targets[index], rate, dtype)
        peers[name] = Peer(name, weights, learner, rounds, seed=seed, patience=patience)
    return Cohort(peers)
