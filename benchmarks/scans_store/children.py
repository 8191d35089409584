"""What is measured in a process of its own, with the memory of all its children."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from computation.scans.making.ingest import import_table
from computation.scans.making.split import Fractions
from computation.scans.store.opening import open_store

__all__ = ["ALL_TRAIN", "CHILDREN", "child"]

ALL_TRAIN = Fractions(1.0, 0.0, 0.0)


def imported(table: str, database: str, label_set: str, jobs: str, like: str) -> dict[str, float]:
    began = time.perf_counter()
    known = {"label_set": label_set, "like": like, "fractions": ALL_TRAIN}
    import_table(Path(table), Path(database), jobs=int(jobs), seed=1, **known)
    return {"seconds": time.perf_counter() - began, "peak_mb": 0.0}


def memory(path: str) -> dict[str, float]:
    from computation.scans.drawing.sampling import PatchSampler

    base = resident()
    seen = []
    with open_store(path) as store:
        sampler = PatchSampler(store, "train", patch_size=(64, 64, 64), batch_size=1, seed=1, site="s")
        for step in range(1000):
            sampler.batch(step)
            seen.append(resident())
    return {"base_mb": base, "peak_mb": max(seen), "growth_mb": seen[-1] - max(seen[400:500])}


def resident() -> float:
    """Megabytes resident now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def child(name: str, *words: str) -> dict[str, float]:
    """Measure in a process of its own, and its peak with all its children's, sampled."""
    command = [sys.executable, "-m", "benchmarks.scans_store", "--child", name, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree(process.pid))
        time.sleep(0.02)
    out = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{name} failed")
    found = json.loads(out.splitlines()[-1])
    return {**found, "peak_mb": max(found["peak_mb"], peak if name == "imported" else 0.0)}


def tree(pid: int) -> float:
    """Megabytes resident in a process and its descendants; shared pages count in each."""
    total = 0.0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        total += pages * resource.getpagesize() / 1e6
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(tree(int(word)) for word in (thread / "children").read_text("ascii").split())
    except (OSError, IndexError):
        pass
    return total


CHILDREN = {"imported": imported, "memory": memory}
