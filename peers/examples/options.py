"""What the examples can be told, and who takes part in them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from peers.engines.torchrun import Options

__all__ = ["group", "parse"]


def parse(
    about: str | None, arguments: Sequence[str] | None, *, epochs: int, batch: int, rate: float, count: int
) -> argparse.Namespace:
    """Return what the command line says, with these defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of MNIST's test half; without it, data are made from the seed"
    )
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch", type=int, default=batch, help="of one process")
    parser.add_argument("--rate", type=float, default=rate, help="learning rate")
    parser.add_argument("--count", type=int, default=count, help="samples to make")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def group() -> Options:
    """Return all processes that `torchrun` started, by rank."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return Options(tuple(f"peer{rank:04d}" for rank in range(size)))
