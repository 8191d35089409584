"""A whole consortium on this machine: a real process or container for each node, and the platform's rules between them.

A cycle, as in COINSTAC: all sites answer iteration n, their files move to the centre, the centre answers iteration n
with every site's output as its input, and its output and files go to all sites. The run ends when the centre says
`success`. See coinstac-platform.md, sections 0, 3 and 4. After every cycle the run can be interrupted and resumed; see
`course`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from computation import entry
from computation.errors import MeshNetError, SimulatorError
from simulator import course, transfer
from simulator.changes import Changes
from simulator.course import Course, Moment
from simulator.inputspec import Spec, by_client, fulfil
from simulator.layout import CENTRE, Layout
from simulator.node import Node, Reply
from simulator.observer import Observer
from simulator.process import Engine, ProcessEngine, stop_all
from simulator.result import Cycle, Result, write_summary
from simulator.signals import Sigterm

__all__ = ["COMMAND", "resume", "run"]

#: The command of the real containers, by its path; see `computation.entry`.
COMMAND = (sys.executable, str(Path(entry.__file__).resolve()))


def run(
    spec: Spec,
    *,
    inputs: Path,
    output: Path,
    command: Sequence[str] = COMMAND,
    engine: Callable[[Layout, Mapping[str, Mapping[str, Any]]], Engine] | None = None,
    sites: int | None = None,
    shuffle_seed: int | None = None,
    observer: Observer | None = None,
    deadline: float | None = None,
    remembered: Mapping[str, Any] | None = None,
    changes: Changes | None = None,
) -> Result:
    """Run a consortium to its end, and write `summary.json` into its output folder.

    Parameters
    ----------
    spec : list or dict
        What inputspec.json holds: `{variable: {"value": ...}}` for each site, or once for all.
    inputs : Path
        Folder with `<client>/simulatorRun` for each site; read only.
    output : Path
        Folder for everything that the run writes.
    command : sequence of str
        Starts a node's server on COINSTAC_PORT, where nodes are processes.
    engine : callable, optional
        Makes what the nodes run in, from the run's folders and each site's inputs; processes by default.
    sites : int, optional
        Number of sites; by default one for each entry of the spec.
    shuffle_seed : int, optional
        Shuffle, from this seed, the order in which the sites' outputs reach the centre; in site order by default.
    observer : Observer, optional
        Told what happens.
    deadline : float, optional
        Seconds that one call may take; for ever by default, as on the platform.
    remembered : mapping, optional
        Plain JSON that `course.Order` keeps for whoever resumes the run.
    changes : Changes, optional
        Additions to the sites' inputs.

    Returns
    -------
    Result
        The centre's final output, and what was measured.

    Raises
    ------
    SimulatorError
        Naming the node that failed. All processes have ended by then, and every node's log says why.
    MeshNetError
        If the run's progress cannot be written down.
    """
    changes = changes or Changes()
    tasks = changes.made(fulfil(spec, sites))
    layout, clients = Layout(output.resolve()), by_client(tasks)
    sigterm = Sigterm()
    with layout.held(), sigterm.heard():
        layout.prepare(clients, inputs.resolve(), changes.files)
        record = Course(layout.course)
        record.begin(course.order(tasks, inputs.resolve(), shuffle_seed, remembered or {}))
        with closing((engine or partial(ProcessEngine, command))(layout, clients)) as started:
            work = Consortium(list(clients), started, layout, observer or Observer(), shuffle_seed, deadline)
            result = sigterm.run(work.run([json.dumps(task, allow_nan=False) for task in tasks]))
        write_summary(layout.summary, result.summary())
    return result


def resume(
    output: Path,
    *,
    command: Sequence[str] = COMMAND,
    engine: Callable[[Layout, Mapping[str, Mapping[str, Any]]], Engine] | None = None,
    observer: Observer | None = None,
    deadline: float | None = None,
) -> Result:
    """Go on with the run in an output folder after its last complete cycle, to the end of the unbroken run.

    Parameters
    ----------
    output : Path
        The interrupted run's.
    command, engine, observer, deadline
        As for `run`; the engine must be of the same kind.

    Raises
    ------
    SimulatorError
        As `run`, or if there is nothing to go on with.
    MeshNetError
        If what the run left is damaged.
    """
    layout, sigterm = Layout(output.resolve()), Sigterm()
    record = Course(layout.course)
    order = record.order()
    with layout.held(), sigterm.heard():
        clients = by_client(order.tasks)
        moment = record.latest()
        layout.check(clients)
        with closing((engine or partial(ProcessEngine, command))(layout, clients)) as started:
            work = Consortium(list(clients), started, layout, observer or Observer(), order.shuffle_seed, deadline)
            result = sigterm.run(work.go_on(moment))
        write_summary(layout.summary, result.summary())
    return result


class Consortium:
    """The nodes of one run, and what travels between them.

    Parameters
    ----------
    clients : sequence of str
        Client ids of the sites.
    engine : Engine
        Runs the nodes.
    observer, shuffle_seed, deadline
        As in `run`.
    layout : Layout
        The run's folders, prepared.
    """

    def __init__(
        self,
        clients: Sequence[str],
        engine: Engine,
        layout: Layout,
        observer: Observer,
        shuffle_seed: int | None,
        deadline: float | None,
    ) -> None:
        def node(client: str) -> Node:
            return Node(client, engine, layout, observer, deadline)

        self._sites = {client: node(client) for client in clients}
        self._centre = node(CENTRE)
        self._arrivals = {client: layout.base(CENTRE) / client for client in clients}
        self._received = [layout.base(client) for client in clients]
        self._results = [layout.output(client) for client in clients]
        self._nodes = [*self._sites.values(), self._centre]
        self._observer, self._seed = observer, shuffle_seed
        self._course = Course(layout.course)
        self._before: list[Cycle] = []

    async def run(self, inputs: Sequence[str]) -> Result:
        """Start all processes, run every cycle, and end all processes whatever happens."""
        return await self._run(1, dict(zip(self._sites, inputs, strict=True)))

    async def go_on(self, moment: Moment) -> Result:
        """Do the same for an interrupted run, from the moment at which it stands."""
        self._before = self._course.cycles()
        arrived = bool(self._before) and self._before[-1].iteration >= moment.iteration
        for node in self._nodes:
            node.recall(moment.caches[node.client], answered=node is self._centre and not arrived)
        if not arrived:
            received = self._distribute(moment.success) * len(self._sites)
            self._before.append(Cycle(moment.iteration, 0.0, 0, 0, len(moment.text) * len(self._sites), received))
            self._course.arrived(self._before[-1])
        self._observer.on_resume(moment.iteration, self._course.plan())
        if moment.success:
            return self._result(json.loads(moment.text), [], 0.0, moment.iteration)
        return await self._run(moment.iteration + 1, dict.fromkeys(self._sites, moment.text))

    async def _run(self, first: int, inputs: Mapping[str, str]) -> Result:
        started = time.perf_counter()
        try:
            for node in self._nodes:
                node.start()
            output, cycles = await self._cycles(first, inputs)
            seconds = time.perf_counter() - started
        except MeshNetError as error:
            for node in self._nodes:
                node.process.tell(f"the run has ended: {error.public}")
            raise
        finally:
            for node in self._nodes:
                node.leave()
            stop_all(node.process for node in self._nodes)
        return self._result(output, cycles, seconds, first - 1)

    def _result(self, output: dict[str, Any], cycles: Sequence[Cycle], seconds: float, before: int) -> Result:
        restarts = {node.client: max(0, node.process.starts - 1) for node in self._nodes}
        seconds += sum(cycle.seconds for cycle in self._before)
        return Result(output, tuple(self._sites), (*self._before, *cycles), restarts, seconds, before)

    async def _cycles(self, first: int, inputs: Mapping[str, str]) -> tuple[dict[str, Any], list[Cycle]]:
        cycles: list[Cycle] = []
        while True:
            reply, cycle = await self._cycle(first + len(cycles), inputs)
            cycles.append(cycle)
            self._course.arrived(cycle)
            self._observer.on_cycle(cycle, reply.output)
            if reply.success:
                return reply.output, cycles
            inputs = dict.fromkeys(self._sites, reply.text)

    async def _cycle(self, iteration: int, inputs: Mapping[str, str]) -> tuple[Reply, Cycle]:
        started = time.perf_counter()
        answers = await _all([self._contribute(site, iteration, inputs[site]) for site in self._sites])
        replies = {site: reply for site, (reply, _) in zip(self._sites, answers, strict=True)}
        verdict = await self._centre.call(iteration, self._gathered(iteration, replies))
        caches = {node.client: node.cache for node in self._nodes}
        self._course.stand(Moment(iteration, verdict.text, verdict.success, caches))
        received = self._distribute(verdict.success)
        cycle = Cycle(
            iteration=iteration,
            seconds=time.perf_counter() - started,
            messages_up=sum(len(reply.text) for reply in replies.values()),
            files_up=sum(size for _, size in answers),
            messages_down=len(verdict.text) * len(replies),
            files_down=received * len(replies),
        )
        return verdict, cycle

    async def _contribute(self, site: str, iteration: int, input_text: str) -> tuple[Reply, int]:
        reply = await self._sites[site].call(iteration, input_text)
        with _naming(site):
            return reply, transfer.move(self._sites[site].transfer, self._arrivals[site])

    def _gathered(self, iteration: int, replies: Mapping[str, Reply]) -> str:
        """Return the centre's input; the order of its keys is the order of arrival."""
        order = list(replies)
        if self._seed is not None:
            order = [order[i] for i in np.random.default_rng([self._seed, iteration]).permutation(len(order))]
        return "{" + ",".join(f"{json.dumps(site)}:{replies[site].text}" for site in order) + "}"

    def _distribute(self, final: bool) -> int:
        """Move the centre's files to all sites: among their inputs, or on the last iteration among their results."""
        with _naming(CENTRE):
            return transfer.broadcast(self._centre.transfer, self._results if final else self._received)


@contextmanager
def _naming(client: str) -> Iterator[None]:
    """Name the node whose files cannot be moved."""
    try:
        yield
    except SimulatorError as error:
        raise SimulatorError(f"{client}: {error.public}", error.private) from error
    except OSError as error:
        raise SimulatorError(f"{client}: its files cannot be moved to where they belong", str(error)) from error


async def _all(calls: Sequence[Coroutine[Any, Any, tuple[Reply, int]]]) -> list[tuple[Reply, int]]:
    """Await all calls; when one fails, give the others up and raise its error (the first site's, if several failed)."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
