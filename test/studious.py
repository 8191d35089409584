"""Learners from slices for virtual time: a quadratic one whose every number is known, and peers that have them."""

import numpy as np
from quadratic import Cohort, Quadratic

from computation.errors import PayloadError
from peers.peer import Peer, Worked


class Studious(Quadratic):
    """Goes downhill towards what a slice holds: five float64; accurate where it is near the goal."""

    def __init__(self, own, goal, rate=0.5, shares=True, people=False):
        super().__init__(np.zeros(len(goal)), rate=rate)
        self.own, self.goal, self.shares, self.people = list(own), np.asarray(goal, float), shares, people
        self.studied, self.busy = [], False

    def check(self, content):
        values = np.frombuffer(content, np.float64) if len(content) == 8 * self.manifest.size else np.array([np.nan])
        if not np.isfinite(values).all():
            raise PayloadError("what came is no slice; wanted five finite numbers")

    def study(self, content, cycle):
        assert not self.busy
        self.busy = True
        self.target = np.frombuffer(content, np.float64)
        self.studied.append(content)
        self.local_steps(cycle)
        self.busy = False
        return Worked(1, 1, 0.0)

    def load_vector(self, values):
        assert not getattr(self, "busy", False)
        super().load_vector(values)

    def apply_gradient(self, mean, round):
        super().load_vector((self._values - self.rate * mean).astype(self.dtype))

    def accuracy(self):
        return float(np.exp(-np.abs(self._values - self.goal).max()))


def slices(count, seed=0, size=5, spread=0.1):
    chance = np.random.default_rng(seed)
    return [(1 + spread * chance.normal(size=size)).tobytes() for _ in range(count)]


def swarm(owns, rounds, seed=0, patience=60.0, **options):
    """Return a cohort of peers n0, n1, ... that bring these slices."""
    names = [f"n{index}" for index in range(len(owns))]
    peers = {}
    for name, own in zip(names, owns, strict=True):
        learner = Studious(own, np.ones(5), **options)
        peers[name] = Peer(name, dict.fromkeys(names, 1.0), learner, rounds, seed=seed, patience=patience)
    return Cohort(peers)
