"""A node that writes down what it may not let the centre see; `test_memory` starts one process for each."""

import os
import sys
from pathlib import Path

import numpy as np

from computation import entry


def load(mode):
    """Return the product's own handler; a site's keeps its words and updates, the centre's its process id."""
    if mode == "remote":
        handler, kept = entry.load_handler(mode), []

        def told(data):
            Path(data["state"]["outputDirectory"], "pid").write_text(str(os.getpid()))
            reply = handler(data)
            # What it ships it knows; the latest is kept: a search of its memory has something that it must find.
            shipped = [path.read_bytes() for path in Path(data["state"]["transferDirectory"]).glob("*_combination.bin")]
            kept[:] = shipped or kept
            return reply

        return told
    from computation import local
    from computation.federation.masking import site
    from computation.training.trainer import Gradient, Trainer

    class Noise(Trainer):
        def gradient(self, round):
            rng = np.random.default_rng([*self.site.encode(), round])
            return Gradient(1.0, 1, 1, (), rng.normal(0, 0.01, self.manifest.size).astype(self.dtype))

    words_of = site.Masks._words

    def kept(self, values, origin, parts, loss, number):
        words = words_of(self, values, origin, parts, loss, number)
        for name, array in (("words", words), ("update", values)):
            array.tofile(self._tracker.folder / f"{name}-{number}.secret")
        return words

    site.Masks._words = kept
    return local.create(Noise)


if __name__ == "__main__":
    sys.exit(entry.main(load))
