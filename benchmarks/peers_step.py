"""A round of averaged gradients between two processes, against the same round's work without the mean.

Run: `.venv/bin/python -m benchmarks.peers_step`. Two peers, one thread each, the demo's network, sub-volumes and scans.
Both do the two kinds of rounds in turns, the first alternating and each from a barrier, so that what else runs here
disturbs both alike. What is compared is the sum over all turns: one peer waits for the other in a mean, and the slower
of two that work alone is what that waiting costs. Prints one line and writes benchmarks/results/peers_step.csv.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from computation.coinstac.compspec import inputspec
from computation.model import architecture
from computation.scans.store.opening import open_store
from computation.settings import parse
from computation.training.trainer import Trainer
from peers.engines import torchrun
from peers.engines.launch import launch
from peers.peer import Peer
from peers.requests import Mean, Steps
from simulator.inputspec import fulfil
from simulator.layout import RUN
from sqlite_fixtures.build import build

NAMES = ("local0", "local1")
WARM, REPEATS = 5, 60
_RESULTS = Path(__file__).parent / "results" / "peers_step.csv"


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder, "sites"), sites=len(NAMES))
        command = (sys.executable, "-m", "benchmarks.peers_step", folder)
        launch(dict.fromkeys(NAMES, command), Path(folder))
        times = np.stack([np.load(Path(folder, f"{name}.npy")) for name in NAMES])
    together, alone = times.max(0).sum(1)
    row = {"turns": REPEATS, "with_mean_s": together / REPEATS, "alone_s": alone / REPEATS, "ratio": together / alone}
    print(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    with _RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)


def work(folder: Path) -> None:
    torch.set_num_threads(1)
    settings, _ = parse(fulfil(inputspec())[0])
    with (
        torchrun.joined(torchrun.Options(NAMES)) as group,
        open_store(folder / "sites" / group.name / RUN / "site.db", classes=settings.classes) as store,
    ):
        wanted = architecture.from_settings(settings)
        trainer = Trainer(wanted, settings, 2 * (WARM + REPEATS), store=store, site=group.name)
        peer = Peer(group.name, dict.fromkeys(NAMES, 1.0), trainer, trainer.rounds)
        np.save(folder / f"{group.name}.npy", group.run(peer, turns(trainer)))
        trainer.close()


def turns(trainer: Trainer) -> Steps:
    """Do both kinds of rounds in turns; return the seconds of both."""
    times, round = np.zeros((2, WARM + REPEATS)), 0
    for turn in range(WARM + REPEATS):
        for which in (turn % 2, 1 - turn % 2):
            round += 1
            dist.barrier()
            began = time.perf_counter()
            gradient = trainer.gradient(round).vector
            mean = (yield Mean(gradient, 1.0)) if which == 0 else gradient
            trainer.apply_gradient(mean, round)
            times[which, turn] = time.perf_counter() - began
    return times[:, WARM:]


if __name__ == "__main__":
    work(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
