"""The product with its training left out: all that a round does but the gradient, for the cost of the protocol."""

from __future__ import annotations

import os
import sys

from computation import entry
from computation.coinstac.server import Handler, run


def load(mode: str) -> Handler:
    """Return the product's handler, with the idle trainer at a site."""
    if mode == "remote":
        return entry.load_handler(mode)
    from trainer import IdleTrainer

    from computation import local

    return local.create(IdleTrainer)


if __name__ == "__main__":
    host, port = entry.address(os.environ)
    sys.exit(run(load, port, host=host))
