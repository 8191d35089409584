"""Measures the platform's bars: `PYTHONPATH=.:test python test/platform/measure.py [process|docker] [ROUNDS]`.

The cost per round is that of the product with its training left out, over an echo of as many bytes in each direction.
The two take turns, so that the machine's other work weighs on both alike; the medians over all rounds are compared.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from consortium import SHORT, database
from driving import ECHO, HERE, IDLE, PRODUCT, RUN, Outcome, drive

from computation.wire.payload import PREFIX

TURNS = 3


def payload_bytes(run: Outcome) -> int:
    """Return the size of the file that each side ships in a round; exit if the run failed."""
    if run.status:
        sys.exit(f"a run failed: {run.reason}, {run.errors}")
    return (run.inputs("local0") / f"{PREFIX}combination.bin").stat().st_size


def product(folder: Path, mode: str, rounds: int, kind: tuple[tuple[str, ...], str]) -> Outcome:
    """Run the product, or the product without training, with two small sites."""
    for index in range(2):
        database(folder / "input" / f"local{index}" / RUN / "site.db", scans=(2, 0, 0), seed=index)
    settings = {**SHORT, "epochs": rounds // 2, "validate_every": 1_000_000}
    return drive(folder, mode, [settings] * 2, kind=kind, deadline=300, measure=True)


def echo(folder: Path, mode: str, rounds: int, size: int) -> Outcome:
    """Run the echo computation with two sites."""
    inputs = [{"rounds": rounds, "size": size}] * 2
    return drive(folder, mode, inputs, kind=ECHO, compspec=HERE / "echo" / "compspec.json", deadline=300)


def started(runs: list[Outcome]) -> tuple[float, float]:
    """Return the median answer on a port and the median first reply, in seconds after the start of a node."""
    pairs = [(starts[0], run.calls[node][0]) for run in runs for node, starts in run.starts.items()]
    answer = statistics.median(start["answered"] - start["started"] for start, _ in pairs)
    return answer / 1000, statistics.median(call["ended"] - start["started"] for start, call in pairs) / 1000


def image_bytes() -> float:
    """Return the unpacked size of the image in GB."""
    done = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Size}}", PRODUCT[1]], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1e9


def main(mode: str, rounds: int) -> None:
    """Measure and print."""
    ours: list[Outcome] = []
    bare: list[Outcome] = []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(TURNS):
            ours.append(product(Path(place, f"ours{turn}"), mode, rounds, IDLE))
            bare.append(echo(Path(place, f"echo{turn}"), mode, rounds, payload_bytes(ours[0])))
        size = payload_bytes(ours[0])
    failed = [run.reason or run.errors for run in ours + bare if run.status]
    if failed:
        sys.exit(f"a run failed: {failed[0]}")
    of_ours, of_bare = ([time for run in runs for time in run.rounds[2:]] for runs in (ours, bare))
    ratio = statistics.median(of_ours) / statistics.median(of_bare)
    answer, joined = started(ours)
    print(f"{mode}, 2 sites, {size} bytes each way, {len(of_bare)} rounds of the echo, {len(of_ours)} of the product")
    print(f"  round of the bare platform    {statistics.median(of_bare):8.1f} ms")
    print(f"  round without training        {statistics.median(of_ours):8.1f} ms")
    print(f"  ratio                         {ratio:8.3f}    bar 1.15")
    print(f"  port answers after            {answer:8.2f} s  bar 2")
    print(f"  joined after                  {joined:8.2f} s  bar 15")
    if mode == "docker":
        print(f"  image, unpacked               {image_bytes():8.2f} GB bar 1.4")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "process", int(sys.argv[2]) if len(sys.argv) > 2 else 40)
