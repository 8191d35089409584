"""What decided the default settings: one choice changed at a time, seen on the validation people alone.

Run: `.venv/bin/python -m benchmarks.recipe --data FOLDER --work FOLDER [--spacing 2] [--rounds 230]`, with the data
of `benchmarks.oasis`. Every line is a federated run of four sites over the same number of rounds from the same seed,
with the product's strategy and trainers; the test people are never read. Prints a line for each and appends it to
benchmarks/results/recipe.csv, so that a run that was cut goes on. Seconds are of processor time over all threads, which
depends less on what else the machine does.

The rounds are few, so that every choice can be afforded on two cores: what the table says holds for short runs, and
what the long run of `benchmarks.oasis` reaches is its check.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.oasis import ledger
from benchmarks.oasis.arms import Training, gradient_mean
from benchmarks.oasis.clock import Watch
from benchmarks.oasis.outcome import compare
from benchmarks.oasis.prepare import prepare

RESULTS = Path(__file__).parent / "results" / "recipe.csv"

#: The settings that the others are changed from, written out so that the product's defaults may move.
BASE: dict[str, Any] = {
    "model": "meshnet-10x8",
    "norm": "group",
    "activation": "gelu",
    "loss": "ce+dice",
    "optimizer": "adamw",
    "learning_rate": 0.04,
    "patch_size": 48,
    "sampling": "foreground",
    "augmentation": "none",
}

#: One choice changed at a time; `normalisation` is a choice of the import.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "seed 1": {"seed": 1},
    "learning rate 0.01": {"learning_rate": 0.01},
    "learning rate 0.02": {"learning_rate": 0.02},
    "learning rate 0.08": {"learning_rate": 0.08},
    "learning rate 0.16": {"learning_rate": 0.16},
    "drawn uniformly": {"sampling": "uniform"},
    "drawn near the centre": {"sampling": "centre"},
    "patch 32": {"patch_size": 32},
    "patch 64": {"patch_size": 64},
    "batch norm, synchronised": {"norm": "batch"},
    "ReLU": {"activation": "relu"},
    "ELU": {"activation": "elu"},
    "cross-entropy": {"loss": "ce"},
    "soft Dice": {"loss": "dice"},
    "SGD 0.1": {"optimizer": "sgd", "learning_rate": 0.1},
    "RMSprop 0.002": {"optimizer": "rmsprop", "learning_rate": 0.002},
    "constant rate 0.01": {"schedule": "constant", "learning_rate": 0.01},
    "exponential decay": {"schedule": "exponential"},
    "no label smoothing": {"label_smoothing": 0.0},
    "no weight decay": {"weight_decay": 0.0},
    "dropout 0.1": {"dropout": 0.1},
    "augmented": {"augmentation": "usual"},
    "5 channels": {"model": "meshnet-10x5"},
    "16 channels": {"model": "meshnet-10x16"},
    "8 layers, 21 channels": {"model": "meshnet-8x21"},
    "min-max": {"normalisation": "min-max"},
    "z-score": {"normalisation": "z-score"},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with subjects.csv")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the imported databases")
    parser.add_argument("--spacing", type=float, default=2.0, help="voxel size in mm")
    parser.add_argument("--rounds", type=int, default=230)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    done = {(row["variant"], row["spacing"], row["rounds"]) for row in ledger.read(options.out)}
    for name in options.variants:
        if (name, f"{options.spacing:g}", str(options.rounds)) not in done:
            ledger.append(options.out, [_row(name, options)])


def _row(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train with one variant, and compare on the validation people."""
    changes = {**BASE, **VARIANTS[name]}
    seed = changes.pop("seed", 0)
    bench = prepare(options.data, options.work, options.spacing, "none", changes.pop("normalisation", "quantile"))
    try:
        training = Training(bench=bench, changes=changes, seed=seed, batches=options.rounds, watch=Watch(name))
        (outcome,) = gradient_mean(training)
        found = compare(outcome.label, bench.pooled, "valid", 3).values()
    finally:
        bench.close()
    white, grey = (statistics.mean(dices[label] or 0.0 for dices in found) for label in (1, 2))
    row = {
        "variant": name,
        "spacing": f"{options.spacing:g}",
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "cpu seconds": round(outcome.spent.cpu_seconds),
        "parameters": outcome.parameters,
        "white": round(white, 4),
        "grey": round(grey, 4),
        "foreground": round((white + grey) / 2, 4),
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
