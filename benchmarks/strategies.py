"""Every strategy on the same four sites of demo data, for the same batches: what the model is worth.

Run: `.venv/bin/python -m benchmarks.strategies [--rounds 60] [--set server_rate=0.03] [--strategies fedadam ...]`. The
handlers, files and messages are the product's, in one process. Prints a line each and appends it to
benchmarks/results/strategies.csv. The demo's sites are alike, so what corrects sites that differ has little to do here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.attacks import foreground, loopback
from benchmarks.oasis import ledger
from benchmarks.oasis.options import commit
from sqlite_fixtures.build import Subjects, build

SITES = tuple(f"local{number}" for number in range(4))
PEOPLE = Subjects(train=4, valid=2, test=0)
STEPS = 8
SGD = {"optimizer": "sgd", "momentum": 0, "learning_rate": 0.1, "weighting": "equal"}
STRATEGIES: dict[str, dict[str, Any]] = {
    "gradient-mean": {"batches": "equal"},
    "fedavg": {},
    "fedprox": {},
    "fedavgm": {},
    "fedadam": {},
    "fedyogi": {},
    "fedadagrad": {"server_momentum": 0},
    "fedavg with sgd": {"strategy": "fedavg", **SGD},
    "scaffold": SGD,
}
RESULTS = Path(__file__).parent / "results" / "strategies.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--patch", type=int, default=24)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of all of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    changed = {name: json.loads(value) for name, _, value in (text.partition("=") for text in options.set)}
    with tempfile.TemporaryDirectory() as folder:
        made = dict(zip(SITES, build(Path(folder, "made"), sites=len(SITES), subjects=PEOPLE), strict=True))
        for name in options.strategies:
            row = _row(Path(folder), made, name, options, changed)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            ledger.append(RESULTS, [row])


def _row(
    folder: Path, made: dict[str, Path], name: str, options: argparse.Namespace, changed: dict[str, Any]
) -> dict[str, Any]:
    settings = {
        "strategy": name, "local_steps": STEPS, "epochs": options.rounds * STEPS // PEOPLE.train,
        "model": "meshnet-10x5", "patch_size": options.patch, "validate_every": 10**6, "seed": 1, "min_scans": 1,
        "data": ["site.db"], **STRATEGIES[name], **changed,
    }  # fmt: skip
    loop, began = loopback(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as root, redirect_stderr(StringIO()):
        final = loop(Path(root), dict.fromkeys(SITES, settings), made).run(most=100_000)
    return {
        "strategy": name,
        "changed": " ".join(f"{key}={value}" for key, value in changed.items()),
        "rounds": final["rounds"],
        "foreground_dice": round(foreground(final["dice"]["pooled"]) or 0.0, 4),
        "seconds": round(time.monotonic() - began, 1),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


if __name__ == "__main__":
    main()
