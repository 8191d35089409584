"""A run without a centre in real processes: one for each peer, started here, or by `torchrun` or Slurm on machines.

Whoever starts the processes, each does the same: it meets the others, runs its course, and leaves `outcome.json` in its
output folder. Where they were started here, these become one `summary.json`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import computation
from computation.coinstac.node import Folders
from computation.errors import PeersError
from peers.course import Course
from peers.options import Choice
from peers.plan import Order, folders, own_folders
from peers.requests import require
from peers.traffic import Count, Traffic
from simulator import course
from simulator.inputspec import by_client
from simulator.layout import Layout
from simulator.result import write_summary

__all__ = ["Meeting", "go_on", "launch", "started_elsewhere", "take_part", "work"]

_OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Meeting:
    """How the processes meet.

    Attributes
    ----------
    collective, device : str
        How a mean is come by, and where; see `engines.torchrun.Options`.
    master, interface : str
        Where all meet, as HOST:PORT, and through which network interface; what the environment says where empty.
    """

    collective: str = "ring"
    device: str = "cpu"
    master: str = ""
    interface: str = ""


def started_elsewhere(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process is one of several that `torchrun` or Slurm started."""
    return "RANK" in environment or int(environment.get("SLURM_NTASKS", "1") or 1) > 1


def launch(order: Order, meeting: Meeting, died: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Start a process for each peer on this machine, wait for their ends, and write `summary.json`.

    Parameters
    ----------
    order, meeting
        What is to be run, and how the processes meet.
    died : callable, optional
        Hears of a peer that ended badly while the others go on.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    PeersError
        If a peer without which the others cannot go on ends badly; it is named.
    SimulatorError
        If the output folder cannot be used.
    """
    with order.layout.held():
        order.layout.prepare(order.names, order.inputs)
        tasks = [order.tasks[f"local{index}"] for index in range(len(order.tasks))]
        remembered = {"choice": asdict(order.choice), "patience": order.patience, "meeting": asdict(meeting)}
        course.Course(order.layout.course).begin(course.order(tasks, order.inputs, None, remembered))
        return _launched(order, [], died)


def go_on(output: Path, died: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Go on with an interrupted run of `launch`; as there.

    Raises
    ------
    SimulatorError
        If no run has begun in the output folder.
    """
    order, _ = _kept(output)
    with order.layout.held():
        order.layout.check(order.names)
        return _launched(order, ["--resume"], died)


def _kept(output: Path) -> tuple[Order, Meeting]:
    """Return what a run in this folder began with."""
    begun = course.Course(Layout(output.resolve()).course).order()
    kept = begun.remembered
    if "choice" not in kept:
        raise PeersError("the run in the output folder has a centre; go on with it by `coinstac-meshnet simulate`")
    tasks = by_client(begun.tasks)
    order = Order(tasks, Path(begun.inputs), output.resolve(), Choice(**kept["choice"]), kept["patience"])
    return order, Meeting(**kept["meeting"])


def _launched(order: Order, options: list[str], died: Callable[[str], object]) -> dict[str, Any]:
    from peers.engines.launch import Ended
    from peers.engines.launch import launch as launched

    for name in order.names:
        (folders(order, name).output / _OUTCOME).unlink(missing_ok=True)
    cli = str(Path(computation.__file__).with_name("cli.py"))
    command = [sys.executable, cli, "peers", "work", str(order.output), *options]
    common = order.choice.rule().common

    def told(ended: Ended) -> None:
        if not ended.well and not common:
            died(f"{ended}, and the others go on; its log says why: {ended.log}")

    ends = launched(
        dict.fromkeys(order.names, command),
        order.layout.root / "logs",
        one_for_all=common,
        patience=order.patience,
        told=told,
    )
    summary = _summary(order, [str(one) for one in ends if not one.well])
    write_summary(order.layout.summary, summary)
    return summary


def work(output: Path, *, resume: bool = False) -> None:
    """Be one of the peers of a run that `launch` began."""
    order, meeting = _kept(output)
    take_part(order, meeting, folders, resume=resume)


def take_part(
    order: Order,
    meeting: Meeting,
    place: Callable[[Order, str], Folders] = own_folders,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """Be one of the peers of a run: the one that the environment says.

    Parameters
    ----------
    order, meeting
        What is to be run, and how the processes meet.
    place : callable
        Returns the folders of the peer; of its own, in the output folder, by default.
    resume : bool
        Whether to go on from its checkpoints.

    Returns
    -------
    dict
        What it leaves in `outcome.json`: summary, traffic and seconds.

    Raises
    ------
    PeersError
        Naming peers that are missing, or without which the run cannot go on.
    MeshNetError
        What else ends a run.
    """
    from peers.engines import torchrun

    require(order.choice.protocol, order.choice.rule().needs, torchrun.NAME, torchrun.OFFERS)
    began = time.monotonic()
    with torchrun.joined(torchrun.Options(order.names, patience=order.patience, **asdict(meeting))) as group:
        where = place(order, group.name)
        one = Course(
            group.name,
            order.names,
            where,
            order.tasks[group.name],
            order.rule(group.name),
            group.run_name,
            patience=order.patience,
            resume=resume,
        )
        outcome = group.run(one.peer, one.steps())
        traffic = group.traffic
    done = {"summary": outcome.summary, "seconds": time.monotonic() - began, "traffic": traffic.as_json()}
    write_summary(where.output / _OUTCOME, done)
    return done


def _summary(order: Order, ends: list[str]) -> dict[str, Any]:
    """Put together what the peers left."""
    left = {name: _read(folders(order, name).output / _OUTCOME) for name in order.names}
    found = {name: one for name, one in left.items() if one}
    if not found:
        raise PeersError(
            f"no peer came to an end: {'; '.join(ends) or 'none left an outcome'}; their logs say why",
            str(order.layout.root / "logs"),
        )
    first, traffic = found[min(found)], Traffic()
    for one in found.values():
        for link in one["traffic"]:
            ends_of = link.pop("sender"), link.pop("receiver")
            traffic.count(*ends_of, Count(**link))
    return {
        **first["summary"],
        "protocol": str(order.choice),
        "engine": "torchrun",
        "seconds": round(max(one["seconds"] for one in found.values()), 3),
        "traffic": traffic.summary(),
        "outages": ends,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read
