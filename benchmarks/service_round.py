"""Time of one round of the embedded service without training: `serve` and its worker, sites over loopback HTTP.

Run: `.venv/bin/python -m benchmarks.service_round [--rounds 1000] [--crowd 50]`. Everything but the trainer is the
product, which offers a constant gradient: requests, accounts, records, files, screening, mean, checkpoints, journals.
A round is the time between two publications by the service's own clock. Prints one table and writes
benchmarks/results/service_round.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.null_round import database
from computation import cli
from computation.isolation import variables
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.link import Link
from service.place import Place

PASSWORD = "a long password of the benchmark"
PROCESSES = multiprocessing.get_context("forkserver")
SETTINGS = {"model": "meshnet-10x5", "norm": "batch", "patch_size": [8, 8, 8]}
#: Rounds until caches are full and memory may be compared.
WARM = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--crowd", type=int, default=50)
    options = parser.parse_args()
    PROCESSES.set_forkserver_preload(["computation.local", "service.client.joining"])
    rows = [measure(4, options.rounds)]
    if options.crowd:
        rows.append(measure(options.crowd, 20))
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    target = Path(__file__).parent / "results" / "service_round.csv"
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def measure(sites: int, rounds: int) -> dict[str, Any]:
    """Run a null training, and return what its rounds and requests took."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as (link, process):
        folder, names = Path(name), [f"site{number:02d}" for number in range(sites)]
        load = os.getloadavg()[0]
        run, joined = start(folder, link, names, rounds)
        pids = {"server": process.pid, "worker": child(process.pid), "site": joined[0].pid}
        before: dict[str, int] = {}
        seen: dict[str, int] = {}
        burnt: dict[str, float] = {}
        while (state := link.get(f"/v1/runs/{run}"))["state"] == "running":
            if state["step"] < rounds:
                seen = {part: memory(pid) for part, pid in pids.items()}
                burnt = {part: processor(pid) for part, pid in pids.items()}
            before = before or (seen if state["step"] > WARM * rounds else {})
            time.sleep(0.2)
        if state["state"] != "completed":
            raise SystemExit(f"the run has {state['state']}: {state['reason']} {state['detail']}")
        for one in joined:
            one.join(60)
        steps = all_steps(link, run)
        requests, size = spent(folder / "data" / "service.log"), values(link, run, steps)
    times = [after["published"] - one["published"] for one, after in itertools.pairwise(steps[10:-3])]
    spends = {f"{part}_cpu_ms": round(1000 * burnt[part] / rounds, 1) for part in pids}
    grown = {f"{part}_grown_percent": round(100 * (seen[part] / before[part] - 1), 2) for part in pids}
    return {
        "sites": sites,
        "rounds": rounds,
        "values": size,
        "load": round(load, 1),
        "cores": os.cpu_count(),
        "p50_ms": statistics.median(times),
        "p95_ms": percentile(times, 95),
        "requests": len(requests),
        "request_p50_ms": statistics.median(ms for _, ms in requests),
        "request_p95_ms": percentile([ms for _, ms in requests], 95),
        "status_5xx": sum(status >= 500 for status, _ in requests),
        "updates_lost": sum(sites - len(one["counted"]) for one in steps),
        **spends,
        **grown,
    }


def values(run_link: Link, run: str, steps: Sequence[Any]) -> int:
    """Return how many values a payload has."""
    files = run_link.get(f"/v1/runs/{run}/rounds/{steps[1]['number']}/result")["files"]
    return (files[0]["size"] - 128) // 4 if files else 0


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Link, subprocess.Popen[str]]]:
    """Start `serve` on a free port, with a coordinator."""
    place = Place(folder / "data")
    place.accounts().add("coordinator", {"coordinator"}, PASSWORD)
    command = [sys.executable, str(Path(cli.__file__)), "serve", "--port", "0", "--data", str(place.folder)]
    environment = {**os.environ, **variables(), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = Address.parse(process.stdout.readline().split()[-1])
            refresh = place.local().login("coordinator", PASSWORD).refresh
            bearer = Bearer(address, lambda: Credentials(refresh=refresh))
            yield Link(address, bearer, partial(Backoff, random.Random(0), 60.0)), process
        finally:
            process.terminate()


def start(folder: Path, link: Link, names: Sequence[str], rounds: int) -> tuple[str, list[Any]]:
    """Make a run, start its sites, and start it as soon as all have accepted."""
    accounts = Place(folder / "data").accounts()
    subjects = {name: accounts.add(name, {"site"}).sub for name in names}
    settings = {**SETTINGS, "epochs": rounds, "validate_every": 10 * rounds}
    members = [{"subject": subjects[name], "site": name} for name in names]
    spec = {"name": "null", "settings": settings, "participants": members, "quorum": len(names), "deadline": 600}
    made = link.post("/v1/runs", spec)
    run = str(made["id"])
    link.post(f"/v1/runs/{run}/invite")
    database(folder / "scans" / "site.db")
    joined = []
    for name in names:
        token = folder / f"{name}.json"
        token.touch(mode=0o600)
        token.write_text(json.dumps({"token": accounts.add_credential(subjects[name], name)[1]}))
        given = [link.address.base, run, str(made["digest"]), str(folder), name]
        joined.append(PROCESSES.Process(target=site, args=given, daemon=True))
        joined[-1].start()
    while sum(one["state"] == "accepted" for one in link.get(f"/v1/runs/{run}/members")["items"]) <= len(names):
        time.sleep(0.2)
    link.post(f"/v1/runs/{run}/start")
    return run, joined


def site(url: str, run: str, digest: str, folder: str, name: str) -> None:
    """Be a site whose trainer offers a constant gradient."""
    import numpy as np
    import torch

    from computation import local
    from computation.training.trainer import Gradient, Trainer
    from service.client.joining import Asked, join

    class NullTrainer(Trainer):
        def gradient(self, round: int) -> Gradient:
            return Gradient(0.0, 1, 1, (), np.full(self.manifest.size, 1e-3, self.dtype))

    torch.set_num_threads(1)
    place = Path(folder)
    with (place / f"{name}.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    asked = Asked(url, place / "scans" / "site.db", place / name, place / f"{name}.json", run, "cpu")
    join(asked, lambda found: found.spec.digest == digest, make=partial(local.create, NullTrainer))


def all_steps(link: Link, run: str) -> list[dict[str, Any]]:
    """Return every published step of a run, oldest first."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = link.get(f"/v1/runs/{run}/rounds", limit=200, after=cursor)
        found += page["items"]
        cursor = str(page["cursor"])
        if not cursor:
            return [one for one in found if one["state"] == "published"]


def spent(log: Path) -> list[tuple[int, int]]:
    """Return status and milliseconds of each request that did not wait for news, as commits and results do."""
    lines = re.findall(r"route=(\S+) status=(\d+) ms=(\d+)", log.read_text(encoding="utf-8"))
    return [(int(status), int(ms)) for route, status, ms in lines if not route.endswith(("/result", "/updates"))]


def percentile(numbers: Sequence[float], percent: int) -> float:
    """Return a percentile, of whole ranks."""
    return sorted(numbers)[min(len(numbers) - 1, len(numbers) * percent // 100)]


def child(pid: int) -> int:
    """Return the worker's process id."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return int(next(text for path in found if (text := path.read_text().split()))[0])


def memory(pid: int) -> int:
    """Return the resident kilobytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) if found else 0


def processor(pid: int) -> float:
    """Return the seconds that a process has computed, its imports included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
