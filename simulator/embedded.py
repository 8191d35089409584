"""A whole consortium on this machine: a real process or container for each node, and the platform's rules between them.

A cycle, as in COINSTAC: all sites answer iteration n, their files move to the centre, the centre answers iteration n
with every site's output as its input, and its output and files go to all sites. The run ends when the centre says
`success`. See coinstac-platform.md, sections 0, 3 and 4.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from computation import entry
from computation.errors import SimulatorError
from simulator import transfer
from simulator.inputspec import Spec, fulfil
from simulator.layout import CENTRE, Layout
from simulator.node import Node, Reply
from simulator.observer import Observer
from simulator.process import Engine, ProcessEngine, stop_all
from simulator.result import Cycle, Result

__all__ = ["COMMAND", "run"]

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
) -> Result:
    """Run a consortium to its end.

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

    Returns
    -------
    Result
        The centre's final output, and what was measured.

    Raises
    ------
    SimulatorError
        Naming the node that failed. All processes have ended by then, and every node's log says why.
    """
    tasks = fulfil(spec, sites)
    layout, clients = Layout(output.resolve()), {f"local{index}": task for index, task in enumerate(tasks)}
    make = engine or partial(ProcessEngine, command)
    sigterm = _Sigterm()
    with layout.held(), sigterm.heard():
        layout.prepare(clients, inputs.resolve())
        with closing(make(layout, clients)) as started:
            consortium = Consortium(list(clients), started, layout, observer or Observer(), shuffle_seed, deadline)
            work = consortium.run([json.dumps(task, allow_nan=False) for task in tasks])
            try:
                return asyncio.run(sigterm.watch(work))
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None


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
        self._observer, self._seed = observer, shuffle_seed

    async def run(self, inputs: Sequence[str]) -> Result:
        """Start all processes, run every cycle, and end all processes whatever happens."""
        nodes = [*self._sites.values(), self._centre]
        started = time.perf_counter()
        try:
            for node in nodes:
                node.start()
            output, cycles = await self._cycles(dict(zip(self._sites, inputs, strict=True)))
            seconds = time.perf_counter() - started
        except SimulatorError as error:
            for node in nodes:
                node.process.tell(f"the run has ended: {error.public}")
            raise
        finally:
            stop_all(node.process for node in nodes)
        restarts = {node.client: node.process.starts - 1 for node in nodes}
        return Result(output, tuple(self._sites), tuple(cycles), restarts, seconds)

    async def _cycles(self, inputs: Mapping[str, str]) -> tuple[dict[str, Any], list[Cycle]]:
        cycles: list[Cycle] = []
        while True:
            reply, cycle = await self._cycle(len(cycles) + 1, inputs)
            cycles.append(cycle)
            self._observer.on_cycle(cycle, reply.output)
            if reply.success:
                return reply.output, cycles
            inputs = dict.fromkeys(self._sites, reply.text)

    async def _cycle(self, iteration: int, inputs: Mapping[str, str]) -> tuple[Reply, Cycle]:
        started = time.perf_counter()
        answers = await _all([self._contribute(site, iteration, inputs[site]) for site in self._sites])
        replies = {site: reply for site, (reply, _) in zip(self._sites, answers, strict=True)}
        verdict = await self._centre.call(iteration, self._gathered(iteration, replies))
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


class _Sigterm:
    """Ends a run at SIGTERM as Ctrl-C does, with every process ended, also where a shell's job ignores Ctrl-C.

    What is cancelled ends where it waits. An exception in the middle of any statement, as Python raises for a signal,
    can leave a lock of the standard library taken for ever.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    async def watch(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await the work, which SIGTERM cancels from now on."""
        self._task = asyncio.current_task()
        try:
            return await work
        finally:
            self._task = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen, in the main thread; no other can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _end(self, *_: object) -> None:
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)
