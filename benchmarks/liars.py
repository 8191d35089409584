"""One liar among five peers without a centre: what the honest ones' model is worth, and whether it is named.

Run: `.venv/bin/python -m benchmarks.liars [--protocols leader gossip:mixing=doubly] [--rounds 60]`. Five sites of demo
data in virtual time, one of them five times and one twice as slow; what the last one sends is not honest, in its rounds
and in the last mean. Prints a row for each run and adds to benchmarks/results/liars.csv. The bar: honest foreground
Dice within 0.03 of the clean run, the liar named, and nobody else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.attacks import OFF, PEOPLE, foreground
from benchmarks.oasis import ledger
from benchmarks.oasis.options import RESULTS, commit
from benchmarks.poison import ATTACKS, Seen
from computation.tracking import mean, read, rounds
from peers.course import Course, Outcome
from peers.engines import virtual
from peers.engines.network import Network
from peers.options import Choice
from peers.peer import Peer
from peers.plan import Order, folders, order
from peers.requests import Report, Request, Send, passed_on
from sqlite_fixtures.build import build

SITES = tuple(f"local{number}" for number in range(5))
LIAR = SITES[-1]
NETWORK = Network(latency=0.015, seconds=0.1, stragglers={"local1": 5.0, "local2": 2.0})
ARMS: dict[str, dict[str, Any]] = {"screened": {}, "off": OFF}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", nargs="+", default=["leader", "gossip:mixing=doubly"])
    parser.add_argument("--attacks", nargs="+", default=["none", "NaN", "x1000", "flip x10"], choices=ATTACKS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--patch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        build(Path(made), sites=len(SITES), subjects=PEOPLE)
        for protocol in options.protocols:
            for arm in options.arms:
                for attack in options.attacks:
                    row = _row(Path(made), options, protocol, attack, arm)
                    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                    ledger.append(RESULTS / "liars.csv", [row])
    return 0


def _row(made: Path, options: argparse.Namespace, protocol: str, attack: str, arm: str) -> dict[str, Any]:
    spec = {
        "model": "meshnet-10x5", "patch_size": options.patch, "local_steps": 4, "epochs": options.rounds // 2,
        "validate_every": 10**6, "seed": 1, "data": ["site.db"], "min_scans": 1, **ARMS[arm],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        asked = order(
            {name: {"value": value} for name, value in spec.items()},
            inputs=made, output=Path(output), peers=len(SITES), choice=Choice.read(protocol), patience=600.0,
        )  # fmt: skip
        with asked.layout.held(), redirect_stderr(StringIO()):
            asked.layout.prepare(asked.names, asked.inputs)
            try:
                done = virtual.run({name: _starter(asked, name, attack) for name in asked.names}, NETWORK).values
                dice = done[SITES[0]].summary["dice"]
            except Exception as error:  # without screening a run may well end so
                print(f"{protocol}, {attack}: {error}")
                dice = {}
        judged = [one for name in SITES for one in rounds(read(folders(asked, name).output / "journal.jsonl"))]
    honest = [foreground(table) for site, table in dice.items() if site in SITES and site != LIAR]
    return {
        "protocol": protocol,
        "arm": arm,
        "attack": attack,
        "honest_dice": round(mean(honest) or 0.0, 4),
        "named": " ".join(sorted({why[:40] for one in judged for site, why in one.skipped.items() if site == LIAR})),
        "honest_out": sum(site != LIAR for one in judged for site in (*one.skipped, *one.clipped)),
        "rounds": options.rounds,
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def _starter(asked: Order, name: str, attack: str) -> Callable[[], tuple[Peer, Generator[Request, Any, Outcome]]]:
    def start() -> tuple[Peer, Generator[Request, Any, Outcome]]:
        course = Course(
            name, asked.names, folders(asked, name), asked.tasks[name], asked.rule(name), "liars", patience=600.0
        )
        steps = course.steps()
        return course.peer, _lying(steps, course.peer, attack) if name == LIAR and attack != "none" else steps

    return start


def _lying(steps: Generator[Request, Any, Outcome], peer: Peer, attack: str) -> Generator[Request, Any, Outcome]:
    """Send something else than what was learnt since the last round that was over."""
    origin = first = np.zeros(0)

    def change(request: Request) -> Request:
        nonlocal origin, first
        if not origin.size or (isinstance(request, Report) and request.closed):
            origin = peer.learner.vector().astype(np.float64)
        if not isinstance(request, Send) or request.message.values is None:
            return request
        own = request.message.values.astype(np.float64)
        first = first if first.size else own
        with np.errstate(all="ignore"):
            lie = ATTACKS[attack](Seen(request.message.round, origin, own, [], first)).astype(np.float32)
        return replace(request, message=replace(request.message, values=lie))

    return passed_on(steps, change)


if __name__ == "__main__":
    sys.exit(main())
