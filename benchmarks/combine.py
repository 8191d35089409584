"""Time of combining contributions, against the float32 sum that only moves the memory.

Run: `.venv/bin/python -m benchmarks.combine`. Prints one table and writes benchmarks/results/combine.csv. Times are
medians of interleaved repetitions on whatever machine this is; the ratio is what carries over to another.
"""

from __future__ import annotations

import csv
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from computation.strategies import average
from computation.strategies.base import Contribution
from computation.wire.payload import HEADER_BYTES

SITES = 4
SIZES = (5_688, 196_113, 2_000_000)
REPEATS = 51


def main() -> None:
    rows = [measure(size) for size in SIZES]
    print(f"{SITES} sites; milliseconds, median of {REPEATS}; the float32 sum has {torch.get_num_threads()} threads")
    print(f"{'values':>10} {'combine':>9} {'float32 sum':>12} {'ratio':>6} {'bytes per value':>16}")
    for row in rows:
        print(
            f"{row['values']:>10,} {row['combine_ms']:>9.4f} {row['float32_sum_ms']:>12.4f} "
            f"{row['combine_ms'] / row['float32_sum_ms']:>6.1f} {row['bytes_per_value']:>16.3f}"
        )
    target = Path(__file__).parent / "results" / "combine.csv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def measure(size: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(size).astype(np.float32) for _ in range(SITES)]
    contributions = [Contribution(f"s{i}", 1, "m", 1.0 + i, 0.5, vector) for i, vector in enumerate(vectors)]
    tensors = [torch.from_numpy(vector) for vector in vectors]
    ours, floor = [], []
    for _ in range(REPEATS):
        ours.append(clock(lambda: average.combine(contributions)))
        floor.append(clock(lambda: sum_float32(tensors)))
    return {
        "values": size,
        "combine_ms": 1e3 * statistics.median(ours),
        "float32_sum_ms": 1e3 * statistics.median(floor),
        "bytes_per_value": (HEADER_BYTES + 4 * size) / size,
    }


def sum_float32(tensors: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros_like(tensors[0])
    for tensor in tensors:
        total.add_(tensor, alpha=0.25)
    return total


def clock(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
