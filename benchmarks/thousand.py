"""A thousand peers in one process: how long virtual time takes to compute, and how much memory.

Run: `.venv/bin/python -m benchmarks.thousand [--peers 1000] [--rounds 100]`. Each peer holds a model of the small
MeshNet's size, 5,702 float32 values, and goes downhill on a quadratic of its own: what is measured is the engine and
push-sum on the one-peer exponential graph, not a network's training. Prints one line and writes
benchmarks/results/thousand.csv. The bar: under five minutes and four gigabytes, and the same bits again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from peers.engines import virtual
from peers.engines.network import Network
from peers.learners import ModuleLearner
from peers.peer import Peer
from peers.protocols.push_sum import PushSum

_RESULTS = Path(__file__).parent / "results" / "thousand.csv"
_VALUES = 5_702


class Point(nn.Module):
    """A point that is to come near another."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(_VALUES))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the distance to the inputs, coordinate by coordinate."""
        return self.x - inputs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [_row(options.peers, options.rounds) for _ in range(2)]
    assert rows[0]["digest"] == rows[1]["digest"], "the same seed gave other bits"
    with _RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    return 0


def _row(count: int, rounds: int) -> dict[str, object]:
    began = time.process_time()
    names = [f"p{index:04d}" for index in range(count)]
    weights = dict.fromkeys(names, 1.0)
    peers = {name: Peer(name, weights, _learner(index), rounds) for index, name in enumerate(names)}
    network = Network(latency=0.015, bandwidth=12.5e6, seconds=0.1, seed=1)
    outcome = virtual.run({name: lambda peer=peer: (peer, PushSum()(peer)) for name, peer in peers.items()}, network)
    digest = hashlib.sha256(b"".join(peer.learner.vector().tobytes() for peer in peers.values())).hexdigest()
    return {
        "peers": count,
        "rounds": rounds,
        "cpu_seconds": round(time.process_time() - began, 1),
        "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "messages": outcome.traffic.total().messages,
        "virtual_seconds": round(outcome.seconds, 3),
        "digest": digest,
    }


def _learner(index: int) -> ModuleLearner:
    model = Point()
    targets = torch.randn(1, _VALUES, generator=torch.Generator().manual_seed(index))

    def batches(round: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield targets, targets

    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    return ModuleLearner(
        model, optimiser, lambda output, _: output.square().sum() / 2, batches, seed=1, name=str(index)
    )


if __name__ == "__main__":
    raise SystemExit(main())
