"""A learner whose closed forms are known: plain descent into a bowl of its own, `h (x - target)^2 / 2` a coordinate."""

import numpy as np
from flat import Flat

from computation.settings import Settings
from computation.training.trainer import LocalResult
from computation.wire.payload import Manifest


class Hill(Flat):
    """A site's trainer, of `steps` steps a round; two batch-norm statistics may ride behind its parameters."""

    def __init__(self, start, target=0.0, steepness=1.0, *, rate=0.1, steps=1, statistics=(), dtype=np.float64):
        size = len(start)
        entries = [("x", (size,)), ("variance", (len(statistics),))][: 1 + bool(statistics)]
        super().__init__(Manifest(tuple(entries)), dtype, [*start, *statistics])
        self.parts = {"parameters": slice(0, size), "statistics": slice(size, None)}
        self.target, self.steepness = np.asarray(target, float), np.asarray(steepness, float)
        self.step_rate, self.steps = rate, steps
        self.settings = Settings(local_steps=steps)

    def rate(self, round):
        return self.step_rate

    def slope(self, values):
        return self.steepness * (values - self.target)

    def local_steps(self, round, correct=None):
        values = self._values.astype(np.float64)
        where = self.parts["parameters"]
        for _ in range(self.steps):
            inner = values[where].astype(self.dtype).astype(np.float64)
            slope = self.slope(inner)
            slope = slope if correct is None else correct(inner, slope)
            values[where] = inner - self.step_rate * slope
        self.load_vector(values.astype(self.dtype))
        return LocalResult(float(np.sum(self.steepness * (inner - self.target) ** 2) / 2), 1, self.steps, ())
