"""Repeats the experiments of four papers, adds rows to a CSV, and prints one table.

::

    python -m benchmarks.papers gossip --data ../shared/data/cifar10
    python -m benchmarks.papers gossip --data ../shared/data/cifar10 --arms gosgd push-sum --iterations 100
    python -m benchmarks.papers ring --data ../shared/data/mnist
    python -m benchmarks.papers cloudmesh --data ../shared/data/cifar10
    python -m benchmarks.papers swarm --data ../shared/data/mnist

Without `--data` pictures are made from the seed: that tries the benchmark, and measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.papers import cloudmesh, gossip, ring, swarm

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    print(asked.run(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.papers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    papers = parser.add_subparsers(required=True)
    for name, module in (("gossip", gossip), ("ring", ring), ("cloudmesh", cloudmesh), ("swarm", swarm)):
        one = papers.add_parser(name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        one.add_argument("--data", type=Path, help="folder of the pictures")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--out", type=Path, default=RESULTS / f"papers-{name}.csv")
        module.add_options(one)
        one.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
