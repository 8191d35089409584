"""A consortium on NVFlare: the containers' own scripts as processes, provisioned, on the loopback, over mutual TLS.

What the platform does between them is done here: it hands the run kits out, with `parameters.json`. The scripts are
known by their paths alone, as in a container.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from computation.errors import SimulatorError, unwritable
from computation.files import replacing
from computation.settings import Member, options
from simulator.changes import Changes
from simulator.inputspec import Spec, by_client, fulfil
from simulator.layout import CENTRE, Layout
from simulator.process import NodeProcess, stop_all
from simulator.result import Cycle, Result, write_summary
from simulator.signals import Sigterm

__all__ = ["SCRIPTS", "run"]

#: The platform's commands, where this package has them.
SCRIPTS = Path(__file__).resolve().parents[1] / "neuroflame" / "system"

_LOOK = 0.2
_PROVISIONING = 120.0
_LEAVING = 120.0  # seconds for the sites to end after the centre
_CENTRAL = "centralNode"


def run(
    spec: Spec,
    *,
    inputs: Path,
    output: Path,
    sites: int | None = None,
    changes: Changes | None = None,
    limits: Sequence[str] = (),
    disturb: Callable[[Mapping[str, NodeProcess]], None] | None = None,
) -> Result:
    """Run a consortium to its end, and write `summary.json` into its output folder.

    Parameters
    ----------
    spec, inputs, output, sites, changes
        As in `embedded.run`.
    limits : sequence of str
        Options of the scripts that set their patience, such as `--silence`.
    disturb : callable, optional
        Told the nodes by client id once all are started; tests kill some.

    Returns
    -------
    Result
        The centre's final output, and what was measured.

    Raises
    ------
    SimulatorError
        Naming the node that failed. All processes have ended by then, and every node's log says why.
    """
    changes = changes or Changes()
    clients = by_client(changes.made(fulfil(spec, sites)))
    layout, sigterm = Layout(output.resolve()), Sigterm()
    owner = _owner(list(clients.values()))
    with layout.held(), sigterm.heard():
        layout.prepare(clients, inputs.resolve(), changes.files)
        started = time.perf_counter()
        with _nodes(layout, list(clients), limits) as nodes:
            _provision(layout, list(clients), owner, nodes[CENTRE].port)
            _members(layout, clients)
            for node in nodes.values():
                node.start()
            if disturb:
                disturb(nodes)
            _wait(nodes)
        result = _result(layout, list(clients), time.perf_counter() - started)
        write_summary(layout.summary, result.summary())
    return result


def _owner(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the owner settings, which on NeuroFLAME are one file for all."""
    own = set(options(Member))
    all_settings = [{name: value for name, value in task.items() if name not in own} for task in tasks]
    if any(settings != all_settings[0] for settings in all_settings):
        raise SimulatorError("the sites' owner settings differ; on NVFlare they are one file of the leader for all")
    return all_settings[0]


def _command(layout: Layout, client: str, limits: Sequence[str]) -> list[str]:
    kits = _kits(layout)
    if client == CENTRE:
        script, where = "entry_central.py", ["--runkit", kits / _CENTRAL]
    else:
        script, where = "entry_edge.py", ["--runkit", kits / client, "--data", layout.base(client)]
    where += ["--output", layout.output(client), "--scratch", layout.cache(client)]
    return [sys.executable, str(SCRIPTS / script), *map(str, where), *limits]


def _kits(layout: Layout) -> Path:
    return layout.cache(CENTRE) / "runKits"


@contextmanager
def _nodes(layout: Layout, clients: Sequence[str], limits: Sequence[str]) -> Iterator[dict[str, NodeProcess]]:
    """Lend the process of each node, the centre's first, and end them all; nothing is started yet."""
    nodes = {
        client: NodeProcess(_command(layout, client, limits), layout.log(client), len(clients), layout.cache(client))
        for client in (CENTRE, *clients)
    }
    try:
        yield nodes
    finally:
        stop_all(nodes.values())


def _provision(layout: Layout, clients: Sequence[str], owner: Mapping[str, Any], port: int) -> None:
    """Do what the platform does before a run: have kits made, and hand them out."""
    folder = layout.cache(CENTRE)
    asked = {
        "users": [{"id": client, "name": client} for client in clients],
        "computation_parameters": owner,
        "fed_learn_port": port,
        # Not what a node's own processes call each other: as in the world, certificates have to fit two names.
        "host_identifier": "127.0.0.1",
    }
    _write(folder / "provision_input.json", asked)
    command = [sys.executable, str(SCRIPTS / "entry_provision.py"), "--folder", str(folder)]
    node = NodeProcess(command, layout.log(CENTRE), len(clients), folder)
    try:
        node.start()
        if not node.wait(_PROVISIONING) or node.status:
            raise SimulatorError(f"provisioning failed: {_last(node)}", node.last_lines())
    finally:
        node.close()
    for client in clients:
        shutil.copyfile(_kits(layout) / _CENTRAL / "parameters.json", _kits(layout) / client / "parameters.json")


def _members(layout: Layout, clients: Mapping[str, Mapping[str, Any]]) -> None:
    """Put each member's own settings where a member would: beside its data."""
    for client, task in clients.items():
        own = {name: value for name, value in task.items() if name in options(Member)}
        if own:
            _write(layout.base(client) / "member.json", own)


def _write(path: Path, value: Any) -> None:
    try:
        with replacing(path) as partial:
            partial.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise SimulatorError(unwritable("output"), str(error)) from error


def _wait(nodes: Mapping[str, NodeProcess]) -> None:
    """Wait until all have ended, the sites soon after the centre; raises `SimulatorError` with the first reason."""
    end = None
    while any(node.alive for node in nodes.values()):
        if not nodes[CENTRE].alive:
            end = end or time.monotonic() + _LEAVING
            if time.monotonic() > end:
                break
        time.sleep(_LOOK)
    for client, node in nodes.items():
        if node.alive or node.status:
            raise SimulatorError(f"{client}: {_last(node)}", node.last_lines())


def _last(node: NodeProcess) -> str:
    """Return the last sentence of a node's log, which is made for everybody."""
    lines = node.last_lines().splitlines() or ["its process ended without a word"]
    return lines[-1].removeprefix("coinstac-meshnet: ")


def _result(layout: Layout, clients: Sequence[str], seconds: float) -> Result:
    try:
        raw = json.loads((layout.output(CENTRE) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SimulatorError("the centre left no result; look at its log", str(error)) from error
    cycles = tuple(
        Cycle(one["iteration"], one["seconds"], 0, one["files_up"], 0, one["files_down"]) for one in raw["rounds"]
    )
    return Result(raw["output"], tuple(clients), cycles, dict.fromkeys((*clients, CENTRE), 0), seconds)
