"""What every learner of a closed form has: a model that is one flat vector of known numbers."""

import numpy as np

from computation.wire import payload


class Flat:
    """Holds a vector of a manifest's size and one dtype, as a `Learner` does."""

    def __init__(self, manifest, dtype, start):
        self.manifest, self.dtype = manifest, np.dtype(dtype)
        self.load_vector(np.asarray(start, self.dtype))

    def vector(self):
        return self._values

    def load_vector(self, values):
        assert values.shape == (self.manifest.size,)
        assert values.dtype == self.dtype
        self._values = np.array(values)
        self._values.flags.writeable = False

    def digest(self):
        return payload.digest(self.manifest, self._values)
