"""Time of a mean by the counted ring, against gloo's own all-reduce of the same values.

Run: `.venv/bin/python -m benchmarks.ring`. Four processes of this machine take turns at both, so that whatever else
runs here disturbs both alike. Prints one table and writes benchmarks/results/ring.csv: medians of the first peer's
times, and the median and quartiles of the ratios of neighbouring turns, which are what carries over to another machine.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from computation.wire.payload import Manifest
from peers.engines import torchrun
from peers.engines.launch import launch
from peers.peer import Peer
from peers.requests import Mean, Steps

NAMES = tuple(f"local{place}" for place in range(4))
#: Values of MeshNet with 5 channels, 22.8 kB in float32, and with 21 channels, 386 kB.
SIZES = (5_688, 96_478)
WARM, REPEATS = 20, 301


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.ring", folder]
        launch(dict.fromkeys(NAMES, command), Path(folder))
        with np.load(Path(folder, "times.npz")) as times:
            rows = [row(size, *times[str(size)]) for size in SIZES]
    print(f"{len(NAMES)} processes, {os.cpu_count()} processors; milliseconds, median of {REPEATS} turns")
    print(f"{'values':>8} {'kB':>7} {'counted ring':>13} {'all-reduce':>11} {'ratio':>6} {'quartiles':>12}")
    for one in rows:
        print(
            f"{one['values']:>8,} {one['values'] * 4e-3:>7.1f} {one['ring_ms']:>13.3f} {one['all_reduce_ms']:>11.3f} "
            f"{one['ratio']:>6.2f} {one['ratio_low']:>6.2f}-{one['ratio_high']:.2f}"
        )
    target = Path(__file__).parent / "results" / "ring.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def row(size: int, ring: np.ndarray, floor: np.ndarray) -> dict[str, float]:
    low, middle, high = statistics.quantiles(ring / floor, n=4)
    return {
        "values": size,
        "ring_ms": 1e3 * statistics.median(ring),
        "all_reduce_ms": 1e3 * statistics.median(floor),
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
    }


class Still:
    """A learner that only says what a vector holds."""

    manifest, dtype, batches = Manifest((("w", (1,)),)), np.dtype(np.float32), 0


def work(folder: Path) -> None:
    with torchrun.joined(torchrun.Options(NAMES)) as group:
        peer = Peer(group.name, dict.fromkeys(NAMES, 1.0), Still(), 1)  # type: ignore[arg-type]
        times = {str(size): group.run(peer, turns(group.rank, size)) for size in SIZES}
        if group.rank == 0:
            np.savez(folder / "times.npz", **times)


def turns(rank: int, size: int) -> Steps:
    """Do both in turns, the first alternating; return the seconds of both."""
    values = np.random.default_rng(rank).standard_normal(size).astype(np.float32)
    tensor, times = torch.zeros(size + 1), np.zeros((2, WARM + REPEATS))
    for turn in range(WARM + REPEATS):
        for which in (turn % 2, 1 - turn % 2):
            dist.barrier()
            began = time.perf_counter()
            if which == 0:
                yield Mean(values, 1.0)
            else:
                dist.all_reduce(tensor)
            times[which, turn] = time.perf_counter() - began
    return times[:, WARM:]


if __name__ == "__main__":
    work(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
