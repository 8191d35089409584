"""Federated against pooled against single sites on the OASIS-25 people: real T1 scans with manual labels.

Run: `.venv/bin/python -m benchmarks.oasis --data FOLDER [--spacing 2] [--rounds 640] [--seeds 1]`, where FOLDER holds
`subjects.csv` and the scans it names (the data set's own README says its licence; nothing of it is shipped). Sites and
split are those of subjects.csv: four sites of four training people and one for validation, and five test people, 18 to
83 years old. All arms have the same architecture, recipe, sub-volumes per round and number of rounds; they are driven
without COINSTAC, by the same strategies and trainers. Prints one table and writes benchmarks/results/oasis.csv, with a
row for each test person.

The four sites are one scanner's people divided up, so "multi-site" here is simulated.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from computation.model import architecture
from computation.scans.ingest import import_table
from computation.scans.store import Store, open_store
from computation.settings import Settings, parse
from computation.strategies import Contribution, named
from computation.training.metrics import Counts, dice, foreground_mean, mean
from computation.training.trainer import Trainer

SITES = ("site0", "site1", "site2", "site3")
LABELS = "gwm-white1-grey2:oasis-tissue"


@dataclass(frozen=True)
class Row:
    """One test person under one arm."""

    arm: str
    seed: int
    person: str
    background: float | None
    white: float | None
    grey: float | None
    foreground: float | None
    all_classes: float | None
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--spacing", type=float, default=2.0, help="voxel size in mm; the field of view is 216 mm")
    parser.add_argument("--rounds", type=int, default=640)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings other than the defaults")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = prepare(options.data, Path(folder), options.spacing)
        rows = [row for seed in range(options.seeds) for row in measure(stores, options, seed)]
    show(rows, options)
    target = Path(__file__).parent / "results" / "oasis.csv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(vars(rows[0])))
        table.writeheader()
        table.writerows(vars(row) for row in rows)


def prepare(data: Path, folder: Path, spacing: float) -> dict[str, Store]:
    """Import each site, all sites together, and the test people, on one grid."""
    with (data / "subjects.csv").open(newline="", encoding="utf-8") as file:
        people = [
            {**row, "image": str((data / row["image"]).resolve()), "label": str((data / row["label"]).resolve())}
            for row in csv.DictReader(file)
        ]
    parts = {site: [row for row in people if row["site"] == site] for site in SITES}
    parts["pooled"] = [row for row in people if row["site"]]
    parts["test"] = [row for row in people if row["split"] == "test"]
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["subject", "image", "label", "split"], extrasaction="ignore")
            table.writeheader()
            table.writerows(rows)
        import_table(
            folder / f"{name}.csv",
            folder / f"{name}.db",
            spacing=spacing,
            grid=round(216 / spacing),
            label_set=LABELS,
            strict=True,
        )
    return {name: open_store(folder / f"{name}.db") for name in parts}


def measure(stores: dict[str, Store], options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Train and test every arm with one seed."""
    changes = dict(item.split("=", 1) for item in options.set)
    for arm in options.arms:
        base = {"model": "meshnet-10x8", "patch_size": 64, "learning_rate": 0.02, "seed": seed}
        base |= {name: int(text) if text.isdigit() else text for name, text in changes.items()}
        if arm == "fedavg":
            base = {"local_steps": 8, **base, "strategy": "fedavg"}
        settings, _ = parse(base)
        for trainer, seconds in ARMS[arm](stores, settings, options.rounds):
            yield from test(arm, seed, trainer, stores["test"], seconds)


def federated(stores: dict[str, Store], settings: Settings, rounds: int) -> Iterator[tuple[Trainer, float]]:
    """Drive the product's strategy and trainers; every site ends with the same model, so one is tested."""
    began = time.perf_counter()
    # Federated averaging gets as many sub-volumes in fewer rounds: local_steps of them between two averages.
    rounds = max(1, rounds // settings.local_steps)
    trainers = {site: _trainer(stores[site], settings, rounds, site) for site in SITES}
    strategy = named(settings)
    for trainer in trainers.values():
        trainer.load_vector(trainers[SITES[0]].vector())
    for number in range(1, rounds + 1):
        offers = []
        for site, trainer in trainers.items():
            values, loss, _ = strategy.contribute(trainer, number)
            offers.append(Contribution(site, number, trainer.digest(), trainer.samples, loss, values))
        combined = strategy.combine(offers)
        for trainer in trainers.values():
            strategy.apply(trainer, combined)
    assert len({trainer.digest() for trainer in trainers.values()}) == 1
    yield trainers[SITES[0]], time.perf_counter() - began


def pooled(stores: dict[str, Store], settings: Settings, rounds: int) -> Iterator[tuple[Trainer, float]]:
    """Train one machine on everybody's scans, with as many sub-volumes per step as all sites together."""
    settings, _ = parse({**settings.as_json(), "strategy": "gradient-mean", "local_steps": len(SITES)})
    yield _alone(stores["pooled"], settings, rounds, "pooled")


def single(stores: dict[str, Store], settings: Settings, rounds: int) -> Iterator[tuple[Trainer, float]]:
    """Train each site alone, with as many sub-volumes per step as all sites together."""
    settings, _ = parse({**settings.as_json(), "strategy": "gradient-mean", "local_steps": len(SITES)})
    for site in SITES:
        yield _alone(stores[site], settings, rounds, site)


def _alone(store: Store, settings: Settings, rounds: int, site: str) -> tuple[Trainer, float]:
    began = time.perf_counter()
    trainer = _trainer(store, settings, rounds, site)
    for number in range(1, rounds + 1):
        trainer.apply_gradient(trainer.gradient(number).vector, number)
    return trainer, time.perf_counter() - began


def _trainer(store: Store, settings: Settings, rounds: int, site: str) -> Trainer:
    return Trainer(architecture.from_settings(settings), settings, rounds, store=store, site=site, device="cpu")


def test(arm: str, seed: int, trainer: Trainer, store: Store, seconds: float) -> Iterator[Row]:
    """Label every test person and compare."""
    for scan in store.scans("test"):
        truth = store.read_label(scan, (0, 0, 0), scan.shape)
        values = dice(Counts.of(trainer.predict(scan), truth, trainer.architecture.classes))
        yield Row(arm, seed, scan.subject, *values, foreground_mean(values), mean(values), seconds)


ARMS: dict[str, Callable[[dict[str, Store], Settings, int], Iterator[tuple[Trainer, float]]]] = {
    "gradient-mean": federated,
    "fedavg": federated,
    "pooled": pooled,
    "single": single,
}


def show(rows: list[Row], options: argparse.Namespace) -> None:
    """Print one line an arm: means over test people, and over the four sites where each trains alone."""
    print(
        f"{options.spacing:g} mm, {options.rounds} rounds of {len(SITES)} sub-volumes, {options.seeds} seed(s), ",
        end="",
    )
    print(f"{torch.get_num_threads()} threads; Dice over the test people")
    print(f"{'arm':>14} {'white':>6} {'grey':>6} {'foreground':>11} {'worst':>6} {'with bg':>8} {'seconds':>8}")
    for arm in dict.fromkeys(row.arm for row in rows):
        some = [row for row in rows if row.arm == arm]
        foreground = [row.foreground or 0.0 for row in some]
        means = [statistics.mean(getattr(row, name) or 0.0 for row in some) for name in ("white", "grey")]
        print(
            f"{arm:>14} {means[0]:>6.3f} {means[1]:>6.3f} {statistics.mean(foreground):>11.3f} {min(foreground):>6.3f} "
            f"{statistics.mean(row.all_classes or 0.0 for row in some):>8.3f} {some[0].seconds:>8.0f}"
        )


if __name__ == "__main__":
    main()
