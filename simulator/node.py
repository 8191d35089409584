"""One node as the platform's manager sees it: calls in order, a cache that is merged, a process that may die."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from computation.errors import MessageError, SimulatorError
from simulator import transfer, wire
from simulator.layout import CENTRE, Layout
from simulator.observer import Observer
from simulator.process import Engine

__all__ = ["Node", "Reply"]

_STARTUP = 46.2  # seconds that the platform gives a container to listen
_TRIES = 2  # a call is sent once more to a process that died over it, but not for ever


@dataclass(frozen=True)
class Reply:
    """A node's answer.

    Attributes
    ----------
    output : dict
        What goes to the other side.
    text : str
        The same as JSON text.
    success : bool
        Whether the run is over.
    """

    output: dict[str, Any]
    text: str
    success: bool


class Node:
    """A site or the centre.

    Parameters
    ----------
    client : str
        Client id.
    engine : Engine
        Runs the node's server.
    layout : Layout
        The run's folders.
    observer : Observer
        Told of starts, calls and replies.
    deadline : float, optional
        Seconds that a call may take once the process listens; for ever by default, as on the platform.
    """

    def __init__(
        self,
        client: str,
        engine: Engine,
        layout: Layout,
        observer: Observer,
        deadline: float | None = None,
    ) -> None:
        self.client = client
        self.mode = "remote" if client == CENTRE else "local"
        self.process = engine.worker(client)
        self.transfer = layout.transfer(client)
        self._state, self._log = engine.state(client), layout.log(client)
        self._observer, self._deadline = observer, deadline
        self._cache: dict[str, Any] = {}
        self._listens, self._line = False, wire.Line()

    @property
    def cache(self) -> dict[str, Any]:
        """What the platform keeps for the node between two calls."""
        return dict(self._cache)

    def recall(self, cache: Mapping[str, Any], *, answered: bool = False) -> None:
        """Take over the cache of an interrupted run.

        Parameters
        ----------
        cache : mapping
            As `cache` was at the end of its last cycle.
        answered : bool
            Whether the files that the node left for others are that cycle's; what it left of a later call is removed,
            because that is done again.
        """
        self._cache = dict(cache)
        if not answered:
            transfer.clear(self.transfer)

    def start(self) -> None:
        """Start the process; `call` waits until it listens."""
        self._listens = False
        self.leave()
        self.process.start()
        self._observer.on_start(self.client, self.process.pid)

    def leave(self) -> None:
        """Close what is open to the process, which then has nobody to wait for when it is to end."""
        self._line.close()

    async def call(self, iteration: int, input_text: str) -> Reply:
        """Send one call and return its reply.

        Parameters
        ----------
        iteration : int
            COINSTAC's iteration.
        input_text : str
            COINSTAC's `input` as JSON.

        Raises
        ------
        SimulatorError
            Naming the node: it reported an error, broke the protocol, died twice, or took too long.
        """
        try:
            return await self._call(iteration, input_text)
        except MessageError as error:
            raise self._failure(error.public, error.private) from error

    async def _call(self, iteration: int, input_text: str) -> Reply:
        request = wire.request_text(self.mode, input_text, self._cache, {**self._state, "iteration": iteration})
        reply = self._checked(wire.read_reply(await self._exchange(iteration, request)))
        self._observer.on_reply(self.client, iteration, reply.output)
        return reply

    async def _exchange(self, iteration: int, request: bytes) -> bytes:
        for _ in range(_TRIES):
            await self._ready()
            self._observer.on_call(self.client, iteration)
            try:
                return await asyncio.wait_for(self._send(request), self._deadline)
            except asyncio.TimeoutError as error:
                raise self._failure(f"no reply to iteration {iteration} within {self._deadline:g} s") from error
            except OSError as error:
                if not await self._died():
                    raise self._failure(f"its connection in iteration {iteration} {error}") from error
                transfer.clear(self.transfer)
        raise self._failure(f"its process died twice over iteration {iteration}", self.process.last_lines())

    async def _send(self, request: bytes) -> bytes:
        return await self._line.call(self.process.host, self.process.port, request, self.process.token)

    async def _ready(self) -> None:
        """Probe until the process listens; start it again if it died since the last call, as the platform does.

        The platform probes before each call. Here a process that listened once is only asked whether it lives.
        """
        fresh = not self.process.starts
        deadline, pause = time.monotonic() + _STARTUP, 0.01
        while time.monotonic() < deadline:
            if not self.process.alive:
                if fresh and self.process.starts:
                    raise self._failure("its process ended before it listened", self.process.last_lines())
                self.start()
                fresh = True
            if self._listens:
                return
            try:
                # A process may bind its port and hang: the probe has what is left of the start, and no more.
                left = deadline - time.monotonic()
                await wire.probe(self.process.host, self.process.port, left, self.process.token)
                self._listens = True
            except OSError:
                await asyncio.sleep(pause)  # it is starting, or has been killed
                pause = min(2 * pause, 0.2)
        raise self._failure(f"its process did not listen within {_STARTUP:g} s", self.process.last_lines())

    async def _died(self) -> bool:
        return await asyncio.to_thread(self.process.wait, self.process.dying)

    def _checked(self, data: dict[str, Any]) -> Reply:
        """Refuse what would make the platform wait for ever, or leave the site out without a word."""
        output, cache, success = data.get("output"), data.get("cache"), bool(data.get("success"))
        if not isinstance(output, dict):
            raise MessageError("its reply has no output object; the platform would wait for ever")
        if success and self.mode == "local":
            raise MessageError("it said that the run has succeeded; only the centre may, and the platform would wait")
        self._cache.update(cache if isinstance(cache, dict) else {})
        return Reply(output, json.dumps(output), success)

    def _failure(self, public: str, private: str = "") -> SimulatorError:
        return SimulatorError(f"{self.client}: {public}", private or str(self._log))
