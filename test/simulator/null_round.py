"""Measure a round without training: `python test/simulator/null_round.py [rounds] [sites]`.

Every site sends a file of 5,688 float32 values, the centre sends one back; the processes are warm.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from simulator import embedded
from simulator.layout import RUN

VALUES = 5_688


def measure(rounds: int = 300, sites: int = 4) -> list[float]:
    """Return the milliseconds of each warm round."""
    with tempfile.TemporaryDirectory() as folder:
        for site in range(sites):
            Path(folder, "input", f"local{site}", RUN).mkdir(parents=True)
        command = (sys.executable, str(Path(__file__).with_name("summing.py")))
        task = {"number": 1, "rounds": rounds, "size": 4 * VALUES}
        spec = {name: {"value": value} for name, value in task.items()}
        result = embedded.run(
            spec, sites=sites, inputs=Path(folder, "input"), output=Path(folder, "run"), command=command
        )
    return [1000 * cycle.seconds for cycle in result.cycles[5:]]


if __name__ == "__main__":
    times = sorted(measure(*map(int, sys.argv[1:])))
    print(
        f"rounds {len(times)}  median {statistics.median(times):.2f} ms  "
        f"10% {times[len(times) // 10]:.2f} ms  90% {times[9 * len(times) // 10]:.2f} ms"
    )
