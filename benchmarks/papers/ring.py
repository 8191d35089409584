"""Training time of the small network for digits at several batch sizes and workers (S. Raja 2019, table 7.1).

Real processes of this machine over the torchrun engine, gradients averaged in every step, the first worker's parameters
for all after an epoch. The batch is one worker's; all workers together go through all digits once an epoch. Hours of
the thesis are those of one and of four GPUs, for epochs that it does not count: only how they change with the batch and
the workers compares. More processes than processors share them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.oasis import ledger
from peers.engines.launch import launch

#: Hours in table 7.1, by workers and batch.
THESIS = {
    1: {8: 4.6, 16: 2.3, 32: 1.2, 64: 0.7, 128: 0.3, 256: 0.25},
    4: {8: 3.4, 16: 1.6, 32: 0.8, 64: 0.4, 128: 0.25, 256: 0.2},
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="of everything, one after the other")
    parser.add_argument("--collective", choices=("ring", "backend"), default="ring")
    parser.add_argument("--made", type=int, default=512, help="digits to make where there are no data")


def run(asked: argparse.Namespace) -> str:
    for repeat in range(asked.repeats):
        for batch in asked.batches:
            for workers in asked.workers:
                ledger.append(asked.out, [_measured(asked, workers, batch, repeat)])
                print(f"batch {batch}, {workers} workers: done", flush=True)
    return table(ledger.read(asked.out))


def _measured(asked: argparse.Namespace, workers: int, batch: int, repeat: int) -> dict[str, object]:
    names = [f"peer{rank:04d}" for rank in range(workers)]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        told = {**vars(asked), "names": names, "batch": batch, "result": str(result)}
        told = {key: told[key] for key in ("names", "batch", "epochs", "collective", "made", "seed", "result")}
        told["data"] = str(asked.data or "")
        command = [sys.executable, "-m", "benchmarks.papers.worker", json.dumps(told)]
        launch(dict.fromkeys(names, command), Path(folder))
        found = json.loads(result.read_text())
    return {
        "workers": workers,
        "batch": batch,
        "repeat": repeat,
        "collective": asked.collective,
        "processors": os.cpu_count(),
        "epochs": asked.epochs,
        **found,
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the seconds of an epoch, the fastest of each kind."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        key = (row["samples"], row["collective"], row["batch"], row["workers"])
        found.setdefault(key, []).append(float(row["seconds"]) / int(row["epochs"]))
    ours = f"{'digits':>7} {'mean by':<8} {'batch':>5} {'workers':>7} {'s/epoch':>8} {'speed':>6}"
    head = f"{ours} {'thesis, h':>9} {'speed':>6}"
    return "\n".join([head, *(_line(key, found) for key in found)])


def _line(key: tuple[str, str, str, str], found: dict[tuple[str, str, str, str], list[float]]) -> str:
    samples, collective, batch, workers = key
    alone = found.get((samples, collective, batch, "1"))
    speed = f"{min(alone) / min(found[key]):.2f}" if alone else ""
    hours = THESIS.get(int(workers), {}).get(int(batch))
    theirs = f"{THESIS[1][int(batch)] / hours:.2f}" if hours else ""
    return (
        f"{samples:>7} {collective:<8} {batch:>5} {workers:>7} {min(found[key]):>8.2f} {speed:>6} {hours or '':>9} "
        f"{theirs:>6}"
    )
