"""Time of one round without training: real processes, the real protocol and files, and a trainer that computes nothing.

Run: `.venv/bin/python -m benchmarks.null_round [--rounds 200] [--masked] [--bare]`. Everything else is the product:
sites and centre parse messages, read and write payloads, combine, step their optimisers, digest the model, write
journal, table, checkpoint; with `--masked` they mask and unmask too, in two steps a round. Prints one table and writes
benchmarks/results/null_round.csv, or null_round_masked.csv. With `--bare` a second consortium, whose nodes neither sign
nor screen, takes turns with each, cycle by cycle, so that both see the same machine; what they take is compared.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from computation.scans.store import writer
from computation.wire.payload import HEADER_BYTES
from simulator import embedded
from simulator.layout import RUN
from simulator.observer import Observer
from simulator.result import Cycle

CASES = ((2, "meshnet-10x5"), (4, "meshnet-10x5"), (4, "meshnet-10x30"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--masked", action="store_true", help="rounds of setting 'secure_aggregation', of two steps")
    parser.add_argument("--bare", action="store_true", help="beside each, in turns, one that neither signs nor screens")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.masked or case[0] > 2]
    if options.bare:
        for sites, model in cases:
            compare(sites, model, options.rounds, options.masked)
        return
    rows = [measure(sites, model, options.rounds, options.masked) for sites, model in cases]
    print(f"load average before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores; milliseconds a round, warm")
    print(f"{'sites':>5} {'model':>14} {'values':>8} {'median':>7} {'10 %':>7} {'90 %':>7} {'kB up':>7}")
    for row in rows:
        print(
            f"{row['sites']:>5} {row['model']:>14} {row['values']:>8,} {row['median_ms']:>7.2f} "
            f"{row['p10_ms']:>7.2f} {row['p90_ms']:>7.2f} {row['bytes_up'] / 1e3:>7.1f}"
        )
    target = Path(__file__).parent / "results" / ("null_round_masked.csv" if options.masked else "null_round.csv")
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


class Turns(Observer):
    """Lets another run have the next cycle."""

    def __init__(self, turn: threading.Lock) -> None:
        self._turn = turn

    def on_cycle(self, cycle: Cycle, output: Mapping[str, Any]) -> None:
        """Wait until the other has had its turn; a cycle's seconds are taken before."""
        self._turn.release()
        time.sleep(0.002)  # a lock goes to who asks first
        self._turn.acquire()


def compare(sites: int, model: str, rounds: int, masked: bool) -> None:
    """Measure a consortium and one that neither signs nor screens in turns, and print what that comes to."""
    turn = threading.Lock()

    def one(*words: str) -> float:
        with turn:
            return float(measure(sites, model, rounds, masked, words, Turns(turn))["median_ms"])

    with ThreadPoolExecutor() as both:
        whole, without = (run.result() for run in [both.submit(one), both.submit(one, "bare")])
    print(
        f"{sites} sites, {model}: {whole:.2f} ms a round, {without:.2f} ms without signatures and screening, which are "
        f"{1 - without / whole:.1%} of it; load {os.getloadavg()[0]:.1f}"
    )


def measure(
    sites: int,
    model: str,
    rounds: int,
    masked: bool = False,
    words: Sequence[str] = (),
    observer: Observer | None = None,
) -> dict[str, float | str]:
    """Run a consortium of null trainers, whose command has these words more, and return what its warm rounds took."""
    settings = {
        "model": model, "norm": "batch", "epochs": rounds, "patch_size": 8, "validate_every": 10 * rounds,
        "data": ["site.db"],
        "secure_aggregation": masked,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for site in range(sites):
            database(Path(folder, "input", f"local{site}", RUN, "site.db"))
        result = embedded.run(
            {name: {"value": value} for name, value in settings.items()},
            sites=sites,
            inputs=Path(folder, "input"),
            output=Path(folder, "run"),
            command=(sys.executable, "-m", "benchmarks.null_entry", *words),
            observer=observer,
        )
        contribution = Path(folder, "run", "input", "remote", RUN, "local0", "__cx_contribution.bin")
        values = (contribution.stat().st_size - HEADER_BYTES) // (8 if masked else 4)
    steps = 2 if masked else 1
    # The first cycle is the join, and a masked round begins at every other one after it.
    rounds_of = [result.cycles[at : at + steps] for at in range(11, len(result.cycles) - 3 - steps, steps)]
    warm = sorted(1e3 * sum(cycle.seconds for cycle in one) for one in rounds_of)
    return {
        "sites": sites,
        "model": model,
        "values": values,
        "median_ms": statistics.median(warm),
        "p10_ms": warm[len(warm) // 10],
        "p90_ms": warm[9 * len(warm) // 10],
        "bytes_up": sum(cycle.messages_up + cycle.files_up for cycle in rounds_of[5]),
    }


def database(path: Path) -> None:
    """Write the smallest database that a site may join with."""
    path.parent.mkdir(parents=True)
    header = writer.Header("bench", ("background", "white matter", "grey matter"), ("#000000",) * 3, "quantile")
    affine = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))
    image = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    with writer.create(path, header) as out:
        out.add(writer.Entry("only", "", "train", affine, 0.0, 512.0, image, (image // 200).astype(np.uint8)))


if __name__ == "__main__":
    main()
