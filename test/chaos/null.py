"""A trainer that computes nothing: what it offers follows from its site, the round and the model, and nothing else."""

import hashlib

import numpy as np

from computation import local
from computation.training.metrics import Counts
from computation.training.trainer import Gradient, LocalResult, Trainer


class Null(Trainer):
    #: Rounds in which it fails, by site: how the oracle leaves a site out.
    missing = frozenset()

    def gradient(self, round):
        self._fail(round)
        return Gradient(self._told(round), self.batches, self.batches, (), self._offered(round))

    def local_steps(self, round, correct=None):
        self._fail(round)
        loss, values, offered = self._told(round), np.array(self.vector()), self._offered(round) * np.float32(0.01)
        own = self.parts["parameters"]
        for _ in range(self.batches):
            step = offered[own] if correct is None else correct(values[own].astype(float), offered[own].astype(float))
            values[own] -= (0.01 * step).astype(self.dtype)
        self.load_vector(values)
        return LocalResult(loss, self.batches, self.batches, ())

    def evaluate(self, split):
        if split != "valid":
            return None
        truth = np.array([900, 500, 328])
        return Counts((truth * self._rng("evaluate", 0).random()).astype(np.int64), truth, truth, 1)

    def _fail(self, round):
        if (self.site, round) in self.missing:
            raise RuntimeError("this round is left out")

    def _rng(self, what, round):
        said = f"{what}/{self.site}/{round}/{self.digest()}".encode()
        return np.random.default_rng(np.frombuffer(hashlib.sha256(said).digest(), np.uint32))

    def _told(self, round):
        return float(self._rng("loss", round).random())

    def _offered(self, round):
        values = self._rng("values", round).normal(size=self.manifest.size).astype(self.dtype)
        for part, place in self.parts.items():
            if part != "parameters":  # statistics, of which variances are positive
                values[place] = np.abs(values[place])
        return values


def make(missing=frozenset()):
    """Return what makes a site's handler; `missing` are its (site, round) to leave out."""
    kind = type("Null", (Null,), {"missing": frozenset(missing)})
    return lambda: local.create(kind)
