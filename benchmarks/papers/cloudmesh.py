"""CloudMesh's experiment: the report's small CNN on CIFAR-10 by two rented providers, beside one process alone.

Report (University of Waterloo, 2025): 1,147,466 parameters, Adam with rate 0.001, batches of 64, 10 epochs: alone
74.52 % in 10.3 minutes, by two providers with one aggregation an epoch 73.70 % in 8.8 minutes. Here the nodes are
processes of this machine: a bootstrap node, two providers, a requester. Arms: `alone`; `mesh-1` and `mesh-10`, so many
aggregations an epoch; `barrier-1`, with a barrier in every cycle. Times include what fetching the data takes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).parents[2]
#: Aggregations in an epoch and bound of staleness.
ARMS = {"alone": None, "mesh-1": (1, 16), "mesh-10": (10, 160), "barrier-1": (1, 0)}
_SETTINGS = {"batch": 64, "rate": 0.001}


@dataclass(frozen=True)
class Row:
    """What one arm came to."""

    arm: str
    seed: int
    epochs: int
    pictures: int
    accuracy: float
    f1: float
    loss: float
    minutes: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--count", type=int, default=0, help="training pictures; default: all")
    parser.add_argument("--work", type=Path, default=Path("cloudmesh-work"), help="for pictures and nodes' files")


def run(options: argparse.Namespace) -> str:
    """Run the arms, add their rows to the CSV, and return a table."""
    source = _prepared(options.data, options.work, options.count, options.seed)
    rows = []
    for arm in options.arms:
        found, count = _alone(source, options) if ARMS[arm] is None else _mesh(source, arm, options)
        figures = {name: found[name] for name in ("accuracy", "f1", "loss")}
        rows.append(Row(arm, options.seed, options.epochs, count, **figures, minutes=found["seconds"] / 60))
        _add(options.out, rows[-1])
    return "\n".join(
        f"{row.arm:10} {100 * row.accuracy:6.2f} %  F1 {row.f1:.4f}  loss {row.loss:.4f}  {row.minutes:6.2f} min"
        for row in rows
    )


def _add(path: Path, row: Row) -> None:
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(vars(row)))
        if new:
            writer.writeheader()
        writer.writerow(vars(row))


def _prepared(data: Path | None, work: Path, count: int, seed: int) -> Path:
    """Write the pictures, 3 x 32 x 32 from -1 to 1, as a mesh takes them; made from the seed without data."""
    folder = work / f"{'cifar10' if data else 'made'}-{count}"
    if not (folder / "test" / "all.npz").is_file():
        for part in ("train", "test"):
            inputs, targets = _read(data, part) if data else _made(part, count or 1000, seed)
            if part == "train" and count:
                kept = np.random.default_rng(seed).permutation(len(targets))[:count]
                inputs, targets = inputs[kept], targets[kept]
            (folder / part).mkdir(parents=True, exist_ok=True)
            np.savez(folder / part / "all.npz", inputs=inputs, targets=targets)
    return folder


def _read(data: Path, part: str):
    from PIL import Image

    with zipfile.ZipFile(data / "cifar10-jpeg.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(part) and name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        pictures = np.empty((len(names), 3, 32, 32), np.float32)
        for place, name in enumerate(names):
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                pictures[place] = np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 127.5 - 1
    return pictures, np.array([classes.index(name.split("/")[1]) for name in names])


def _made(part: str, count: int, seed: int):
    chance = np.random.default_rng([seed, part == "test"])
    patterns = np.random.default_rng(7).normal(size=(10, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    labels = chance.integers(10, size=count)
    return (patterns[labels] + chance.normal(size=(count, 3, 32, 32))).astype(np.float32), labels


def _alone(source: Path, options: argparse.Namespace):
    import torch
    from torch.utils.data import TensorDataset

    from peers.mesh import data, models
    from peers.mesh.requester import evaluate

    arrays = data.part(source, "train")
    asked = models.model("simple-cnn")
    items = TensorDataset(*map(torch.from_numpy, arrays))
    learner = models.learner(asked, items, **_SETTINGS, seed=options.seed, name="alone")
    began = time.monotonic()
    for epoch in range(1, options.epochs + 1):
        learner.local_steps(epoch)
    seconds = time.monotonic() - began
    return evaluate(asked, learner, data.part(source, "test"), seconds), len(items)


def _mesh(source: Path, arm: str, options: argparse.Namespace):
    aggregations, staleness = ARMS[arm]
    with np.load(source / "train" / "all.npz") as found:
        count = len(found["targets"])
    output = options.work.resolve() / f"{arm}-{options.seed}"
    with _nodes(options.work.resolve() / "nodes") as contact:
        words = ["requester", "--data", str(source.resolve()), "--share-data", "--strict", "--providers", "2", *contact]
        words += [word for name, value in _SETTINGS.items() for word in (f"--{name}", str(value))]
        words += ["--epochs", str(options.epochs), "--aggregations", str(aggregations), "--staleness", str(staleness)]
        words += ["--seed", str(options.seed), "--output", str(output), "--folder", "."]
        subprocess.run(_command(words), cwd=options.work.resolve() / "nodes", check=True)
    return json.loads((output / "metrics.json").read_text(encoding="utf-8")), count


def _command(words: list[str]) -> list[str]:
    return [sys.executable, str(_ROOT / "computation" / "cli.py"), "mesh", *words]


@contextmanager
def _nodes(folder: Path):
    """Start a bootstrap node and two providers, with half of the processors each; end them at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = str(max((os.cpu_count() or 2) // 2, 1))
    processes = []

    def start(words: list[str]) -> str:
        process = subprocess.Popen(
            _command([*words, "--folder", "."]),
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )
        processes.append(process)
        for line in process.stdout:
            if found := re.search(r"listens on tcp://(\S+:\d+)", line):
                return found[1]
        raise SystemExit("a node did not start")

    try:
        contact = ["--bootstrap", f"bootstrap1@{start(['bootstrap'])}"]
        for name in ("provider1", "provider2"):
            start(["provider", "--name", name, "--take-data", *contact])
        yield contact
    finally:
        for process in processes:
            process.kill()
            process.wait()
