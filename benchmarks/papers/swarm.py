"""LEARNAE on MNIST: ten nodes that share slices and models, beside one node that has all of it.

The ten get equal shares of the digits; slices and models go from one to another, in virtual time. One node alone has
all of them: once it does as many turns as each of the ten, once as many as all ten together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from benchmarks.oasis import ledger
from peers.examples.data import digits, mnist
from peers.protocols.swarm import Swarm
from peers.swarm.comparing import cohort, measured


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--turns", type=int, default=150)
    parser.add_argument("--size", type=int, default=100, help="digits in a slice")
    parser.add_argument("--model", default="perceptron")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--made", type=int, default=1000, help="pictures to make where there are no data")


def run(asked: argparse.Namespace) -> str:
    torch.set_num_threads(1)
    train, test = mnist(asked.data) if asked.data else (digits(asked.made, asked.seed), digits(200, asked.seed + 1))
    for name, nodes, turns in (
        ("swarm", asked.nodes, asked.turns),
        ("one, turns of one", 1, asked.turns),
        ("one, turns of all", 1, asked.turns * asked.nodes),
    ):
        began = time.process_time()
        peers = cohort(
            [_share(train, test, place, nodes) for place in range(nodes)],
            asked.size, turns, asked.model, asked.seed, asked.rate,
        )  # fmt: skip
        row = measured(peers, asked.size, Swarm(share=True), asked.seed)
        figures = {**asdict(row), "processor": round(time.process_time() - began, 1)}
        ledger.append(asked.out, [{"arm": name, "nodes": nodes, "turns": turns, "seed": asked.seed, **figures}])
        print(f"{name} is done", flush=True)
    return table(ledger.read(asked.out))


def _share(train: TensorDataset, test: TensorDataset, place: int, nodes: int) -> Mapping[str, NDArray[Any]]:
    """Return one node's data, as `peers.swarm.data` has them; channels are left out."""
    inputs, targets = (tensor.numpy() for tensor in train.tensors)
    held_inputs, held_targets = (tensor.numpy() for tensor in test.tensors)
    return {
        "inputs": np.ascontiguousarray(inputs[place::nodes, 0]),
        "targets": np.ascontiguousarray(targets[place::nodes]),
        "held_inputs": np.ascontiguousarray(held_inputs[:, 0]),
        "held_targets": held_targets,
    }


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as text."""
    lines = [f"{'arm':20} {'nodes':>5} {'turns':>6} {'accuracy':>8} {'worst':>6} {'MB sent':>8} {'seconds':>8}"]
    for row in rows:
        lines.append(
            f"{row['arm']:20} {row['nodes']:>5} {row['turns']:>6} {float(row['accuracy']):8.3f} "
            f"{float(row['worst']):6.3f} {int(row['sent']) / 1e6:8.1f} {float(row['processor']):8.1f}"
        )
    return "\n".join(lines)
