"""GoSGD, mixing matrices, noisy links, push-sum and federated averaging on CIFAR-10 (E. Mirzaei 2021).

Eight workers (federated averaging: 100 clients, a tenth of them in a round, 5 epochs in batches of 50), plain gradient
descent at a rate of 0.01 with a decay of 1e-4 in batches of 128, the study's network, all peers in virtual time. Its
notebook has a momentum of 0.9 and clips gradients at 5, which its text does not say: `--momentum` is for the first.
Losses and accuracies are of the mean model, weighted as its protocol says, on test pictures.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.oasis import ledger
from benchmarks.papers.arms import ARMS, WORKERS, Arm
from benchmarks.papers.networks import gossip_network
from benchmarks.papers.pictures import Pictures, cifar10, made, stratified
from computation.strategies.average import weighted_mean
from computation.wire.payload import Vector
from peers.batches import Shuffled
from peers.engines import virtual
from peers.engines.network import Network
from peers.learners import ModuleLearner
from peers.noise import noisy
from peers.peer import Peer
from peers.requests import Report, Request, Steps, passed_on

_RATE, _DECAY = 0.01, 1e-4
#: Parts of a run after each of which the models are looked at.
_LOOKS = 4


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument(
        "--iterations", type=int, default=0, help="in the arms' own units; 0: as each arm has by default"
    )
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--test", type=int, default=2000, help="test pictures to look at")
    parser.add_argument("--made", type=int, default=1000, help="pictures to make where there are no data")


def run(asked: argparse.Namespace) -> str:
    train, test = cifar10(asked.data) if asked.data else made(asked.made, asked.seed)
    # The archive lies in order of classes.
    test = test.part(np.random.default_rng(0).permutation(len(test))[: asked.test])
    for name in asked.arms:
        bench = Bench(ARMS[name], train, test, asked.iterations or ARMS[name].usual, asked.seed, asked.momentum)
        ledger.append(asked.out, bench.run())
        print(f"{name} is done", flush=True)
    return table(ledger.read(asked.out))


@dataclass
class Bench:
    """One arm at work."""

    arm: Arm
    train: Pictures
    test: Pictures
    iterations: int
    seed: int = 0
    momentum: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    failures: int = 0
    seen: dict[int, dict[str, tuple[Vector, float]]] = field(default_factory=dict)

    def run(self) -> list[dict[str, Any]]:
        """Train, and return a row for each look; the last one has what was sent."""
        self.model = gossip_network(self.seed)
        self.marks = {math.ceil(self.iterations * part / _LOOKS) for part in range(1, _LOOKS + 1)}
        names = [f"p{place:03d}" for place in range(self.arm.peers)]
        shares = stratified(self.train.labels, self.arm.peers, self.seed)
        parts = [self.train if self.arm.shared else self.train.part(share) for share in shares]
        peers = {name: self._peer(name, names, parts) for name in names}
        rule = self.arm.rule(self.seed)
        self.began, self.looking = time.process_time(), 0.0
        starts = {name: self._start(peer, rule) for name, peer in peers.items()}
        sent = virtual.run(starts, Network(seconds=1.0, seed=self.seed)).traffic.total()
        self.rows[-1].update(messages=sent.messages, megabytes=round(sent.bytes / 1e6, 1))
        return self.rows

    def _peer(self, name: str, names: Sequence[str], parts: Sequence[Pictures]) -> Peer:
        weights = {other: float(len(part)) for other, part in zip(names, parts, strict=True)}
        own = parts[names.index(name)]
        batches = Shuffled(own, self.arm.batch, self.seed, name)
        batches = Shuffled(own, self.arm.batch, self.seed, name, self.arm.epochs * batches.steps_per_epoch or 1)
        model = copy.deepcopy(self.model)
        descent = torch.optim.SGD(model.parameters(), _RATE, self.momentum, weight_decay=_DECAY)
        learner = ModuleLearner(model, descent, nn.functional.cross_entropy, batches, name=name, seed=self.seed)
        return Peer(name, weights, learner, self.iterations, seed=self.seed, failed=self._failed)

    def _failed(self, round: int, error: Exception) -> None:
        self.failures += 1

    def _start(self, peer: Peer, rule: Any) -> virtual.Start[None]:
        return lambda: (peer, self._watched(noisy(rule(peer), self.arm.noise, peer), peer))

    def _watched(self, steps: Steps, peer: Peer) -> Steps:
        def see(request: Request) -> Request:
            if isinstance(request, Report):
                self._hear(request, peer)
            return request

        return passed_on(steps, see)

    def _hear(self, report: Report, peer: Peer) -> None:
        if report.loss is not None:
            self.losses.append((report.round, report.loss))
        if report.closed and report.round in self.marks:
            held = self.seen.setdefault(report.round, {})
            held[peer.name] = (peer.learner.vector(), float(peer.memory.get("weight", 1.0)))
            if len(held) == self.arm.peers:
                self._look(report.round, self.seen.pop(report.round))

    def _look(self, iteration: int, held: dict[str, tuple[Vector, float]]) -> None:
        began = time.process_time()
        vectors, weights = zip(*held.values(), strict=True)
        mean = weighted_mean(vectors, [weight / math.fsum(weights) for weight in weights])
        loss, right = self._tested(mean)
        # A peer that is ahead has told of later rounds already.
        losses = [value for told, value in self.losses if told <= iteration]
        self.losses = [one for one in self.losses if one[0] > iteration]
        last = iteration == self.iterations and self.arm.peers <= WORKERS
        worst = min(self._tested(one)[1] for one in vectors) if last else None
        self.looking += time.process_time() - began
        self.rows.append(
            {
                "arm": self.arm.name,
                "seed": self.seed,
                "momentum": self.momentum,
                "pictures": len(self.train),
                "iteration": iteration,
                "iterations": self.iterations,
                "paper": self.arm.paper,
                "unit": self.arm.unit,
                "train_loss": _rounded(float(np.mean(losses)) if losses else math.nan),
                "test_loss": _rounded(loss),
                "accuracy": _rounded(right),
                "worst": "" if worst is None else _rounded(worst),
                "distance": _rounded(math.sqrt(np.mean([float(np.sum((one - mean) ** 2)) for one in vectors]))),
                "failures": self.failures,
                "cpu_seconds": round(time.process_time() - self.began - self.looking, 1),
                "messages": "",
                "megabytes": "",
            }
        )

    @torch.inference_mode()
    def _tested(self, values: Vector) -> tuple[float, float]:
        """Return the mean loss and the share of right answers on the test pictures."""
        nn.utils.vector_to_parameters(torch.from_numpy(np.array(values)), self.model.parameters())
        summed = right = 0.0
        for first in range(0, len(self.test), 500):
            pictures, labels = self.test[first : first + 500]
            scores = self.model.eval()(pictures)
            summed += float(nn.functional.cross_entropy(scores, labels, reduction="sum"))
            right += int((scores.argmax(1) == labels).sum())
        return summed / len(self.test), right / len(self.test)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the last look of each arm, with how many of the paper's iterations it had."""
    last = {(row["arm"], row["seed"], row["momentum"], row["pictures"], row["iterations"]): row for row in rows}
    head = (
        f"{'arm':<16} {'iterations':>24} {'seed':>4} {'train loss':>10} {'test loss':>10} {'accuracy':>8} {'worst':>7} "
        f"{'distance':>9} {'messages':>8} {'MB':>8} {'cpu s':>7}"
    )
    return "\n".join([head, *(_line(row) for row in last.values())])


def _line(row: dict[str, str]) -> str:
    done = f"{row['iteration']} of {row['paper']} {row['unit']}"
    return (
        f"{row['arm']:<16} {done:>24} {row['seed']:>4} {row['train_loss']:>10} {row['test_loss']:>10} "
        f"{row['accuracy']:>8} {row['worst']:>7} {row['distance']:>9} {row['messages']:>8} {row['megabytes']:>8} "
        f"{row['cpu_seconds']:>7}"
    )
