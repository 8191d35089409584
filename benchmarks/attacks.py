"""One attacker among five sites of demo data: what the honest sites' model is worth, and whether the attacker is named.

Run: `.venv/bin/python -m benchmarks.attacks [--arms mean off median] [--attacks ...]`. Handlers, files, messages and
pages are the product's, in one process; only what local4 sends is not honest (`poison`). Prints one table and writes
benchmarks/results/attacks.csv. The bar: honest foreground Dice within 0.03 of the clean run, and the attacker named in
the centre's journal for every attack but wrong labels, which may be what an honest site has.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import runpy
import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.oasis import ledger
from benchmarks.oasis.options import commit
from benchmarks.poison import ATTACKS, poisoned
from computation import local
from computation.tracking import lines
from computation.training.metrics import mean
from sqlite_fixtures.build import Subjects, build

SITES = tuple(f"local{number}" for number in range(5))
ATTACKER = SITES[-1]
#: 80 rounds of one step, and 120 of eight: after 40 averaged models still improve so fast that a site that sits a round
#: out costs a quarter of the Dice (0.417 without an attacker, 0.317 with one).
STRATEGIES: dict[str, dict[str, Any]] = {
    "gradient-mean": {"epochs": 10},
    "fedavg": {"strategy": "fedavg", "local_steps": 8, "epochs": 120},
}
#: The demo's, without those that only the end of a run would label.
PEOPLE = Subjects(train=8, valid=2, test=0)
OFF = {
    **dict.fromkeys(("clip_above", "refuse_above", "suspect_above", "opposed_above", "drifted_above"), 0),
    "copies": "count",
}
#: The rule and the screening of a run: all robust rules with the product's screening and, as one must ask for, drift's.
ARMS: dict[str, dict[str, Any]] = {
    "mean": {},
    "mean without drift": {"drifted_above": 0},
    "off": OFF,
    "median": {"rule": "median"},
    "trimmed mean": {"rule": "trimmed-mean"},
    "mixed trimmed mean": {"rule": "trimmed-mean", "mixing_neighbours": True},
    "geometric median": {"rule": "geometric-median"},
    "multi-krum": {"rule": "multi-krum"},
}
#: How far from the clean run the bar lets the honest sites end.
BAR = 0.03
RESULTS = Path(__file__).parent / "results" / "attacks.csv"
#: Names the columns that together stand for one row.
KEY = ("strategy", "attack", "arm", "rounds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="default: 10, and 120 with fedavg")
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--arms", nargs="+", default=["mean", "off"], choices=ARMS, help="off: without screening")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        made = dict(zip(SITES, build(Path(folder, "made"), sites=len(SITES), subjects=PEOPLE), strict=True))
        for arm in options.arms:
            for strategy in options.strategies:
                for attack in options.attacks:
                    rows.append(_row(Path(folder), made, options, strategy, attack, arm))
                    _judge(rows[-1], [*ledger.read(RESULTS), *rows])
                    _show(rows[-1])
                    _write(rows)
    return int(any(row["within"] == "no" for row in rows if row["arm"] != "off"))


def _row(
    folder: Path, made: dict[str, Path], options: argparse.Namespace, strategy: str, attack: str, arm: str
) -> dict[str, Any]:
    settings = {
        "model": "meshnet-10x5", "patch_size": options.patch, "validate_every": 10**6, "seed": 1, "data": ["site.db"],
        "min_scans": 1, "drifted_above": 0.7,
        **STRATEGIES[strategy], **({"epochs": options.epochs} if options.epochs else {}), **ARMS[arm],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as root:
        trainer = poisoned(attack, ATTACKER)
        loop = loopback()(Path(root), dict.fromkeys(SITES, settings), made, make_local=lambda: local.create(trainer))
        with redirect_stderr(StringIO()):
            try:
                final = loop.run(most=100_000)
            except Exception as error:  # without screening, a run may well end so
                print(f"{strategy}, {attack}: {error}", file=sys.stdout)
                final = {}
        journal = [json.loads(line) for line in (loop.folder("output", "remote") / "journal.jsonl").open()]
    done = [entry for entry in journal if entry["event"] == "round"]
    honest = [foreground(final["dice"][site]) for site in SITES if site != ATTACKER] if final else [0.0]
    return {
        "strategy": strategy,
        "attack": attack,
        "arm": arm,
        "honest_dice": round(mean(honest) or 0.0, 4),
        "rounds": len(done),
        "refused": sum(ATTACKER in entry["skipped"] for entry in done),
        "clipped": sum(ATTACKER in entry["clipped"] for entry in done),
        "reasons": " ".join(sorted({entry["skipped"][ATTACKER] for entry in done if ATTACKER in entry["skipped"]})),
        "first": next((entry["round"] for entry in done if ATTACKER in {*entry["skipped"], *entry["clipped"]}), ""),
        "excluded": next((entry["round"] for entry in journal if entry.get("kind") == "excluded"), ""),
        "honest_refused_or_clipped": sum(
            site != ATTACKER for entry in done for site in (*entry["skipped"], *entry["clipped"])
        ),
        "least_honest_cosine": round(
            min(
                mean([entry["by_site"][site]["cosine"] for entry in done if site in entry["by_site"]]) or 0.0
                for site in SITES
                if site != ATTACKER
            ),
            2,
        ),
        "largest_honest_multiple": _largest(done, "multiple"),
        "largest_honest_drift": _largest(done, "drift"),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def _largest(done: list[dict[str, Any]], name: str) -> float:
    """Return the largest number of its name among all honest sites' of all rounds."""
    return round(
        max(numbers[name] for entry in done for site, numbers in entry["by_site"].items() if site != ATTACKER), 2
    )


def loopback() -> Any:
    """Return the laws' own loop: the platform's message path in one process."""
    return runpy.run_path(str(Path(__file__).parents[1] / "test" / "loopback.py"))["Loopback"]


def foreground(dice: dict[str, float | None]) -> float | None:
    """Return the mean Dice of all classes but the background."""
    return mean([value for name, value in dice.items() if name != "background"])


def _judge(row: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Hold a row against the latest clean run of its strategy and length with the mean and screening on."""
    wanted = (row["strategy"], "none", "mean", str(row["rounds"]))
    clean = [one for one in rows if tuple(str(one[name]) for name in KEY) == wanted]
    row["difference"] = round(row["honest_dice"] - float(clean[-1]["honest_dice"]), 4) if clean else ""
    row["within"] = ("yes" if abs(row["difference"]) <= BAR else "no") if clean else ""
    row["named"] = "yes" if row["refused"] or row["clipped"] else "no"


def _show(row: dict[str, Any]) -> None:
    names = ("strategy", "attack", "arm", "honest_dice", "difference", "within", "named", "refused", "first", "reasons")
    shown = "  ".join(f"{name.replace('_', ' ')} {row[name]}" for name in names[3:])
    print(f"{row['strategy']:<14} {row['attack']:<14} {row['arm']:<18} {shown}", flush=True)


def _write(rows: list[dict[str, Any]]) -> None:
    """Write the rows, in the place of those of the same strategy, attack and arm; others stay."""
    made = {tuple(str(row[name]) for name in KEY): row for row in [*ledger.read(RESULTS), *rows]}
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(made.values())
    lines.replace(RESULTS, text.getvalue())


if __name__ == "__main__":
    sys.exit(main())
