"""Time of one round on NVFlare, provisioned and over mutual TLS, without training: two cases that bound what it costs.

Run: `.venv/bin/python -m benchmarks.nvflare_round [--rounds 100]`; needs the extra `nvflare`. The first case is the
product with a trainer that computes nothing, the other handlers that only send and take files of eight megabytes.
Prints one table and writes benchmarks/results/nvflare_round.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.null_round import database
from simulator import nvflare
from simulator.layout import RUN

#: What the processes that compute find first: handlers of another kind, in the place of ours.
NULL = """
import sys
if "worker_process" in " ".join(sys.orig_argv):
    from benchmarks import null_entry
    from computation import local
    service = null_entry.load("local")
    local.create = lambda: service
"""
ECHO = """
import sys
if "_process" in " ".join(sys.orig_argv):
    from benchmarks.nvflare_round import Echo
    from computation import local, remote
    local.create, remote.create = lambda: Echo("local"), lambda: Echo("remote")
"""
SIZE = 8_000_000
SETTINGS = {"model": "meshnet-10x5", "norm": "batch", "patch_size": 8, "data": ["site.db"]}


class Echo:
    """A handler that sends a file and takes one."""

    def __init__(self, mode):
        self.mode = mode

    def __call__(self, data):
        """Answer one call; the centre ends the run after so many rounds as there are epochs."""
        iteration, rounds = data["state"]["iteration"], int(os.environ["BENCHMARK_ROUNDS"])
        success = self.mode == "remote" and iteration > rounds
        if not success:
            Path(data["state"]["transferDirectory"], "__cx_echo.bin").write_bytes(os.urandom(64) * (SIZE // 64))
        else:
            Path(data["state"]["outputDirectory"], "index.html").write_text("done")
        return {"output": {"round": iteration}, "success": success}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    rows = [measure("null trainer", NULL, rounds), measure("8 MB each way", ECHO, min(rounds, 30))]
    print(f"load average: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores; milliseconds a round, two sites, warm")
    print(f"{'what':>14} {'rounds':>6} {'median':>7} {'10 %':>7} {'90 %':>7} {'kB up':>8}")
    for row in rows:
        print(
            f"{row['what']:>14} {row['rounds']:>6} {row['median_ms']:>7.1f} "
            f"{row['p10_ms']:>7.1f} {row['p90_ms']:>7.1f} {row['bytes_up'] / 1e3:>8.1f}"
        )
    with Path(__file__).with_name("results").joinpath("nvflare_round.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def measure(what: str, hook: str, rounds: int) -> dict[str, float | str]:
    """Run two sites with other handlers and return what their warm rounds took."""
    settings = {**SETTINGS, "epochs": rounds, "validate_every": 10 * rounds}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(hook)
        os.environ["PYTHONPATH"] = folder
        os.environ["BENCHMARK_ROUNDS"] = str(rounds)
        for site in range(2):
            database(Path(folder, "input", f"local{site}", RUN, "site.db"))
        result = nvflare.run(
            {name: {"value": value} for name, value in settings.items()},
            sites=2,
            inputs=Path(folder, "input"),
            output=Path(folder, "run"),
        )
    cycles = result.cycles[5:-3]
    warm = sorted(1e3 * cycle.seconds for cycle in cycles)
    return {
        "what": what,
        "rounds": rounds,
        "median_ms": statistics.median(warm),
        "p10_ms": warm[len(warm) // 10],
        "p90_ms": warm[9 * len(warm) // 10],
        "bytes_up": statistics.median(cycle.files_up for cycle in cycles),
    }


if __name__ == "__main__":
    main()
