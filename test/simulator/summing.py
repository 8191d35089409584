"""A stand-in computation for tests of the server and the simulator: sites send a number and a file, the centre sums.

Run as a script it is a node's command. A site's inputs: `number`, `rounds`, `size` of its file in bytes, and `fault`, a
list of `[iteration, kind]` with the kinds of `misbehave`. The centre misbehaves when a site's fault is of a kind that
begins with `centre-`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from computation.coinstac.admission import TOKEN
from computation.coinstac.server import Handler, run
from computation.entry import address
from computation.errors import ContributionError

SECRET = "subject-0042 in /data/hospital"
ONCE = "died-once"


def local(data: dict[str, Any]) -> dict[str, Any]:
    """A site: keeps its inputs in the cache, reads the centre's file, sends its own."""
    state, cache = data["state"], data["cache"]
    iteration = state["iteration"]
    task = data["input"] if iteration == 1 else cache["task"]
    if iteration > 1:
        received = Path(state["baseDirectory"], "__cx_total.bin").read_bytes()
        assert received[:4] == (iteration - 1).to_bytes(4, "little"), "not the file of the last iteration"
    result = misbehave(task.get("fault", []), "", state)
    if result is None:
        write(Path(state["transferDirectory"], "__cx_part.bin"), iteration, task.get("size", 8))
        centre_faults = [fault for fault in task.get("fault", []) if fault[1].startswith("centre-")]
        numbers = {"number": task["number"], "rounds": task["rounds"], "fault": centre_faults}
        result = {"output": {"phase": "sum", "pid": os.getpid(), **numbers}, "cache": {"task": task}}
    return result


def remote(data: dict[str, Any]) -> dict[str, Any]:
    """The centre: sums the numbers so far and ends after the wanted rounds."""
    state, sites = data["state"], data["input"]
    iteration = state["iteration"]
    for site, output in sites.items():
        received = Path(state["baseDirectory"], site, "__cx_part.bin").read_bytes()
        assert received[:4] == iteration.to_bytes(4, "little"), "not the file of this iteration"
        result = misbehave(output["fault"], "centre-", state)
        if result is not None:
            return result
    total = data["cache"].get("total", 0) + sum(output["number"] for output in sites.values())
    first = next(iter(sites.values()))
    write(Path(state["transferDirectory"], "__cx_total.bin"), iteration, len(received))
    output = {"phase": "sum", "round": iteration, "rounds": first["rounds"], "total": total, "order": list(sites)}
    pids = {site: output["pid"] for site, output in sites.items()}
    success = iteration == first["rounds"]
    return {"output": {**output, "pids": pids}, "cache": {"total": total}, "success": success}


def write(path: Path, iteration: int, size: int) -> None:
    """Write a file that says in its first bytes of which iteration it is."""
    path.write_bytes(iteration.to_bytes(4, "little") + bytes(max(0, size - 4)))


def misbehave(faults: list[list[Any]], prefix: str, state: dict[str, Any]) -> dict[str, Any] | None:
    """Do what the faults of this iteration say; return a bad result, or None for an ordinary one."""
    for iteration, kind in faults:
        if iteration == state["iteration"] and kind.startswith(prefix):
            return FAULTS[kind.removeprefix(prefix)](state) if kind.removeprefix(prefix) in FAULTS else None
    return None


def _raise(_: Any) -> dict[str, Any]:
    raise ValueError(SECRET)


def _refuse(_: Any) -> dict[str, Any]:
    raise ContributionError("the gradient is not finite", SECRET)


def _die_once(state: dict[str, Any]) -> None:
    mark = Path(state["outputDirectory"], ONCE)
    if not mark.exists():
        mark.touch()
        write(Path(state["transferDirectory"], "__cx_debris.bin"), 0, 8)
        os._exit(1)


def _nested(state: dict[str, Any]) -> None:
    folder = Path(state["transferDirectory"], "__cx_folder", "deep")
    folder.mkdir(parents=True)
    (folder / "__cx_leaf.bin").write_bytes(b"leaf")


FAULTS = {
    "raise": _raise,
    "refuse": _refuse,
    "die": lambda _: os._exit(1),
    "die-once": _die_once,
    "exit": lambda _: sys.exit(3),
    "hang": lambda _: time.sleep(600),
    "nan": lambda _: {"output": {"loss": float("nan")}},
    "null": lambda _: {"output": None},
    "none": lambda _: {},
    "success": lambda _: {"output": {}, "success": True},
    "huge": lambda _: {"output": {"text": "x" * (65 * 2**20)}},
    "large": lambda _: {"output": {"text": "x" * (60 * 2**20)}},
    "nested": _nested,
    "link": lambda state: Path(state["transferDirectory"], "__cx_link").symlink_to("/etc/hostname"),
    "overwrite": lambda state: write(Path(state["transferDirectory"], "site.db"), 7, 8),
    "print": lambda _: print("a line from the computation", flush=True),
}


def load(mode: str) -> Handler:
    """Return the handler of a mode."""
    return local if mode == "local" else remote


if __name__ == "__main__":
    host, port = address(os.environ)
    run(load, port, host=host, token=os.environ.get(TOKEN, ""))
