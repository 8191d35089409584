"""A node whose trainer computes nothing; `null_round` starts one process of it for each site and for the centre.

With the word `bare` it signs nothing, checks no signature and screens nothing: what these cost is the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from computation import entry
from computation.coinstac.server import Handler


def load(mode: str) -> Handler:
    """Return the product's own handler; a site's has a trainer that offers a constant gradient."""
    if mode == "remote":
        return entry.load_handler(mode)
    from computation import local
    from computation.training.trainer import Gradient, Trainer

    class NullTrainer(Trainer):
        def gradient(self, round: int) -> Gradient:
            return Gradient(0.0, 1, 1, (), np.full(self.manifest.size, 1e-3, self.dtype))

    return local.create(NullTrainer)


def bare(mode: str) -> Handler:
    """Return the same without signatures and screening."""
    from computation.federation import origin as signatures
    from computation.federation import screening
    from computation.strategies import Contribution
    from computation.wire.payload import Vector
    from computation.wire.signing import Key

    def sealed(
        message: Mapping[str, Any], key: Key, sender: str, charter: str = "", files: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return {**message, "files": dict(files or {}), "signature": "0" * 128}

    def screen(
        taken: Sequence[Contribution],
        origin: Vector,
        parts: Mapping[str, slice],
        state: screening.State,
        bounds: screening.Bounds,
    ) -> screening.Screened:
        return screening.Screened(tuple(taken), {}, {}, state)

    for module, name, nothing in (
        (signatures, "sealed", sealed),
        (signatures, "is_sealed", lambda *_: True),
        (screening, "screen", screen),
    ):
        setattr(module, name, nothing)
    return load(mode)


if __name__ == "__main__":
    sys.exit(entry.main(bare if "bare" in sys.argv else load))
