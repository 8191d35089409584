"""Slice size by overuse threshold, in virtual time: the paper's figures 4 to 8, by its definitions of the measures.

Average accuracy is the mean over nodes of their models' accuracy; bytes sent are all that travelled; resilience is the
mean, over what was asked for, of how many held it at that moment; the duplicate share is bytes that came to a node that
had them already, by all bytes that came.
"""

from __future__ import annotations

import csv
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from computation.errors import PeersError
from computation.terminal import console
from peers.engines import virtual
from peers.engines.network import Network
from peers.peer import Peer
from peers.protocols.swarm import Swarm
from peers.requests import Request
from peers.slices import Kind, SliceLearner, encode
from peers.swarm.data import digits
from peers.swarm.models import built

__all__ = ["Row", "cohort", "compare", "measured", "table"]


@dataclass(frozen=True)
class Row:
    """One swarm's measures.

    Attributes
    ----------
    size, threshold : int
        Samples in a slice, and nodes that may use one; 0: all.
    accuracy, worst : float
        Mean over nodes, and the least.
    sent : int
        Bytes, of all nodes; with real nodes, those of contents and notes.
    resilience : float
        Holders of what was asked for, mean.
    duplicates : float
        Share of bytes that came for nothing.
    cycles : int
        Of training, of all nodes.
    averaged : int
        Times that a node averaged with another's model, of all nodes.
    seconds : float
        Of virtual time, or for which real nodes lived.
    """

    size: int
    threshold: int
    accuracy: float
    worst: float
    sent: int
    resilience: float
    duplicates: float
    cycles: int
    averaged: int
    seconds: float


def compare(
    nodes: int,
    sizes: Sequence[int],
    thresholds: Sequence[int],
    samples: int,
    turns: int,
    progress: TextIO,
    seed: int = 0,
) -> list[Row]:
    """Run one swarm for each pair, on data that everybody may have.

    Raises
    ------
    PeersError
        If there is nothing to compare.
    """
    if nodes < 1 or turns < 1 or min(sizes, default=0) < 1 or samples < nodes:
        raise PeersError("nothing to compare: wanted nodes, turns, sizes of 1 and more, and a sample for each node")
    rows = []
    for size in sizes:
        for threshold in thresholds:
            parts = [digits(samples, node, nodes, seed) for node in range(nodes)]
            peers = cohort(parts, size, turns, "perceptron", seed)
            rows.append(measured(peers, size, Swarm(share=True, overuse=threshold), seed))
            print(f"slices of {size}, threshold {threshold}: accuracy {rows[-1].accuracy:.3f}", file=progress)
    return rows


def cohort(
    parts: Sequence[Mapping[str, NDArray[Any]]], size: int, turns: int, model: str, seed: int, rate: float = 0.05
) -> dict[str, Peer]:
    """Return one peer for each share of the data; all measure their accuracy by what is held out, of one kind."""
    names = [f"n{place:02d}" for place in range(len(parts))]
    held = torch.from_numpy(parts[0]["held_inputs"]), torch.from_numpy(parts[0]["held_targets"].astype(np.int64))
    kind = Kind(tuple(parts[0]["inputs"].shape[1:]), int(held[1].max()) + 1)
    learners = [
        _learner(name, part, kind, held, size, model, seed, rate) for name, part in zip(names, parts, strict=True)
    ]
    weights = dict.fromkeys(names, 1.0)
    return {
        name: Peer(name, weights, learner, turns, seed=seed, patience=600.0)
        for name, learner in zip(names, learners, strict=True)
    }


def _learner(
    name: str, part: Mapping[str, NDArray[Any]], kind: Kind, held: Any, size: int, model: str, seed: int, rate: float
) -> SliceLearner:
    network = built(model, kind, seed)
    inputs, targets = part["inputs"], part["targets"]
    slices = [encode(inputs[at : at + size], targets[at : at + size]) for at in range(0, len(targets), size)]
    return SliceLearner(
        network,
        torch.optim.SGD(network.parameters(), rate, momentum=0.9),
        torch.nn.functional.cross_entropy,
        kind,
        slices,
        held,
        size=32,
        shares=True,
        people=False,
        name=name,
        seed=seed,
    )


def measured(peers: Mapping[str, Peer], size: int, rule: Swarm, seed: int) -> Row:
    """Run a swarm on a network of 20 ms and 100 Mb/s, where 3 holders answer at once, and measure it."""
    network = Network(latency=0.02, bandwidth=12.5e6, jitter=0.01, seconds=0.2, mesh=4, answers=3, seed=seed)

    def start(peer: Peer) -> virtual.Start[None]:
        def begin() -> tuple[Peer, Generator[Request, Any, None]]:
            return peer, rule(peer)

        return begin

    outcome = virtual.run({name: start(peer) for name, peer in peers.items()}, network)
    accuracies = [peer.learner.accuracy() for peer in peers.values()]  # type: ignore[attr-defined]
    total = outcome.traffic.total()
    return Row(
        size,
        rule.overuse,
        float(np.mean(accuracies)),
        min(accuracies),
        total.bytes,
        float(np.mean(outcome.holders)) if outcome.holders else 0.0,
        total.again / max(total.bytes, 1),
        sum(peer.memory["known"]["maturity"] for peer in peers.values()),
        sum(peer.memory["known"]["mixed"] for peer in peers.values()),
        outcome.seconds,
    )


def table(rows: Sequence[Row], output: Path | None, time: str = "virtual s") -> None:
    """Print the rows, and write them as CSV."""
    from rich.table import Table

    names = ("slice", "T", "accuracy", "worst", "MB sent", "resilience", "twice %", "cycles", "mixed", time)
    shown = Table(*names, box=None, padding=(0, 1, 0, 0))  # with borders, it is wider than a terminal
    for row in rows:
        shown.add_row(
            *(str(row.size), str(row.threshold or "none"), f"{row.accuracy:.3f}", f"{row.worst:.3f}"),
            *(f"{row.sent / 1e6:.1f}", f"{row.resilience:.2f}", f"{100 * row.duplicates:.1f}"),
            *(str(row.cycles), str(row.averaged), f"{row.seconds:.1f}"),
        )
    console().print(shown)
    if output is not None:
        with output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(map(asdict, rows))
