"""COINSTAC's version-2 service: a WebSocket server that answers one call at a time.

The platform connects twice for each call: a probe that opens and closes without a word, and the call itself, one JSON
text `{"mode", "data": {"input", "cache", "state"}}`. It waits for as long as it takes, and for ever if it gets no
reply, so every failure here is a reply that ends the run with one line that all sites may read. The traceback stays
in `error.log` in this site's output folder.

The event loop only moves bytes. A single thread parses, computes and encodes, so calls never overlap, and whatever a
handler opens (a database, a device) is always used from the thread that opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import numbers
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from websockets.asyncio.compatibility import asyncio_timeout  # that of asyncio is of Python 3.11
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from computation.checks import parse_json
from computation.coinstac.admission import Guest, Hall
from computation.errors import MeshNetError, MessageError, public_text

__all__ = ["MODES", "REPLY_LIMIT", "REQUEST_LIMIT", "Handler", "Loader", "Responder", "run", "serve"]

#: Answers one call: COINSTAC's `data` in, `{"output", "cache"?, "success"?}` out.
Handler = Callable[[dict[str, Any]], dict[str, Any]]
#: Makes the handler of a mode; called once, in the worker thread, when the first call for that mode comes.
Loader = Callable[[str], Handler]

MODES = ("local", "remote")
#: Longest request in bytes: as our own replies, of which it is made. The library's default of 1 MiB would refuse
#: ordinary calls of a large consortium.
REQUEST_LIMIT = 64 * 2**20
#: Longest reply in bytes: the platform's client drops one of more than 100 MiB with a misleading message.
REPLY_LIMIT = 64 * 2**20

#: How a call of COINSTAC's first protocol begins: the words of a command, then its input and an empty message, each by
#: itself (coinstac-container-manager 6.9.8, `serviceFunction.js`). Its client waits for ever on any reply but that of
#: its own server, so it gets none: it takes a close with a reason, of at most 123 bytes, for a failure.
_FIRST_PROTOCOL = b'{"command":'
_WRONG_PROTOCOL = "the compspec's compspecVersion is 1; wanted 2: use the compspec.json that came with this image"

_LONGEST_LINE = 600
#: Seconds in which a connection must bring a whole request, and take a whole reply. The platform's client speaks at
#: once, but may be busy with other messages while it reads.
_SILENCE, _TAKING = 60.0, 600.0
#: What this process is told of itself at the first call, and must be told in every other.
_TOLD = ("clientId", "baseDirectory", "outputDirectory", "transferDirectory", "cacheDirectory")
_LONGEST_LOG = 16 * 2**20  # bytes of error.log
_FAREWELL = 3.0  # seconds that a client has, after a signal, to take what is being sent and to close

log = logging.getLogger(__name__)
# Port scanners and broken clients are none of the site's business; `Responder` answers every failure of a call.
_transport_log = logging.getLogger(f"{__name__}.transport")
_transport_log.disabled = True


class Responder:
    """Turns the text of a request into the text of a reply, and every failure into a reply too.

    Parameters
    ----------
    load : callable
        Makes the handler of a mode.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load
        self._handlers: dict[str, Handler] = {}
        self._state: Mapping[str, Any] = {}
        self._told: tuple[Any, ...] = ()
        self._where = "before the first call"

    def __call__(self, text: bytes | str) -> str:
        """Answer one request. Never raises."""
        try:
            return _success(self._compute(text))
        except BaseException as error:
            # SystemExit too: a handler that exits would otherwise leave the platform waiting for ever.
            return self._failure(error)

    def _compute(self, text: bytes | str) -> dict[str, Any]:
        self._where = "reading the request"
        mode, data = _parse_request(text)
        self._hold_to(mode, data["state"])
        self._where = _describe(mode, data)
        if mode not in self._handlers:
            self._handlers[mode] = self._load(mode)
            # What the imports made stays for good: no later collection need look at it.
            gc.freeze()
        return _checked_result(mode, self._handlers[mode](data))

    def _hold_to(self, mode: str, state: Mapping[str, Any]) -> None:
        """Take a call only for the node and the folders of the first one: a process serves one run of one node.

        Whoever else reaches the port could have other folders emptied and written with this process's rights.
        """
        told = (mode, *(state.get(name) for name in _TOLD))
        if self._told and told != self._told:
            raise MessageError(
                "the request is for another node, or other folders, than this process was first told; "
                "start a process for each run of each node"
            )
        self._told, self._state = told, state

    def _failure(self, error: BaseException) -> str:
        line = _public_line(error, self._where)
        with contextlib.suppress(Exception):  # the reply matters more than the record of why
            _record(self._state, self._where, error)
        log.error("%s", line)
        return json.dumps({"type": "stderr", "data": line, "code": 1, "end": True})


def _parse_request(text: bytes | str) -> tuple[str, dict[str, Any]]:
    try:
        request = parse_json(text)
    except ValueError as error:
        raise MessageError("the request is not JSON; wanted one object with mode and data", str(error)) from error
    if not isinstance(request, dict):
        raise MessageError(f"the request is a {type(request).__name__}; wanted an object with mode and data")
    mode, data = request.get("mode"), request.get("data")
    if mode not in MODES:
        raise MessageError(f"the request's mode is unknown; wanted {' or '.join(MODES)}", repr(mode)[:200])
    if not isinstance(data, dict):
        raise MessageError("the request has no data; wanted an object with input, cache and state")
    missing = [name for name in ("input", "cache", "state") if not isinstance(data.get(name), dict)]
    if missing:
        raise MessageError(f"the request's data has no {' and no '.join(missing)}; wanted an object for each")
    return mode, data


def _describe(mode: str, data: Mapping[str, Any]) -> str:
    """Say where in the run a call stands, in words that any site may read."""
    place = "the centre" if mode == "remote" else "the site"
    messages = data["input"].values() if mode == "remote" else [data["input"]]
    phases = {str(message["phase"]) for message in messages if isinstance(message, dict) and message.get("phase")}
    phase = phases.pop() if len(phases) == 1 else ""
    after = f" after phase {phase}" if phase.isidentifier() and len(phase) <= 32 else ""
    iteration = data["state"].get("iteration")
    return f"{place}'s iteration {iteration}{after}" if isinstance(iteration, int) else f"{place}'s call{after}"


def _checked_result(mode: str, result: Any) -> dict[str, Any]:
    """Refuse what the platform would answer with silence: it waits for ever for an output that is no object."""
    if not isinstance(result, dict) or not isinstance(result.get("output"), dict):
        raise MessageError("the computation returned no output; wanted an object (an empty one will do)")
    if not isinstance(result.get("cache", {}), dict):
        raise MessageError("the computation returned a cache that is no object; wanted an object or none")
    if mode == "local" and result.get("success"):
        raise MessageError("a site said that the run has succeeded; only the centre may end a run")
    return result


def _plain(value: Any) -> int | float:
    """Convert a NumPy scalar, which `json` does not know; an array belongs in a file, not in a message."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"a value of type {type(value).__name__} is not JSON")


def _success(result: Mapping[str, Any]) -> str:
    reply = {"type": "stdout", "data": result, "end": True}
    try:
        text = json.dumps(reply, allow_nan=False, default=_plain, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise MessageError(
            "the reply holds a value that JSON cannot carry, such as NaN or an array; wanted finite numbers and texts",
            str(error),
        ) from error
    if len(text) > REPLY_LIMIT:  # ASCII, so characters are bytes
        raise MessageError(
            f"the reply is {len(text)} bytes long; wanted at most {REPLY_LIMIT}: tensors travel in files"
        )
    return text


def _public_line(error: BaseException, where: str) -> str:
    """Return one line without anything of the site."""
    text = public_text(error)
    if not isinstance(error, MeshNetError):
        text += "; the details are in error.log in that node's own output folder"
    return " ".join(f"{where}: {text}".split())[:_LONGEST_LINE]


def _record(state: Mapping[str, Any], where: str, error: BaseException) -> None:
    folder = Path(state["outputDirectory"])
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    trace = "".join(traceback.format_exception(error))
    with (folder / "error.log").open("a", encoding="utf-8", errors="backslashreplace") as file:
        if file.tell() < _LONGEST_LOG:  # somebody may go on asking for failures
            file.write(f"{now} {where}\n{trace}\n")


class _Worker:
    """One thread that answers texts in the order in which they came; made and asked in an event loop."""

    def __init__(self, answer: Callable[[bytes | str], str]) -> None:
        self._answer, self._loop = answer, asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[bytes | str, asyncio.Future[str]]] = queue.SimpleQueue()
        self.busy = False
        # A daemon: a signal must end the process even while a handler computes.
        threading.Thread(target=self._work, name="computation", daemon=True).start()

    def submit(self, text: bytes | str) -> asyncio.Future[str]:
        future = self._loop.create_future()
        self._calls.put((text, future))
        return future

    def _work(self) -> None:
        while True:
            text, future = self._calls.get()
            self.busy = True
            reply = self._answer(text)
            self.busy = False
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                self._loop.call_soon_threadsafe(_give, future, reply)


def _give(future: asyncio.Future[str], reply: str) -> None:
    if not future.done():
        future.set_result(reply)


class _Service:
    """The connections of one process."""

    def __init__(self, load: Loader, token: str) -> None:
        self.worker = _Worker(Responder(load))
        self.hall = Hall(token)
        self.stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self) -> None:
        """Ask `attend` and `serve` to come to an end."""
        if not self.stopping.done():
            self.stopping.set_result(None)

    async def attend(self, connection: ServerConnection) -> None:
        """Answer every message of one connection until the client closes it; a probe closes at once."""
        # A reply to a client that has gone away is lost, as the platform expects.
        with contextlib.suppress(ConnectionClosed):
            reason = ""
            while not reason:
                reason = await self._answer(connection)
            # Not 1000: the platform would take that for a normal end and wait for the reply for ever.
            code = CloseCode.GOING_AWAY if self.stopping.done() else CloseCode.POLICY_VIOLATION
            await connection.close(code, reason)

    async def _answer(self, connection: ServerConnection) -> str:
        """Answer one message; return why the connection should end, if it should."""
        try:
            async with asyncio_timeout(_SILENCE):
                text = await connection.recv(decode=False)
        except asyncio.TimeoutError:
            return f"no whole request within {_SILENCE:g} s"
        if text.startswith(_FIRST_PROTOCOL):
            log.error("%s", _WRONG_PROTOCOL)
            return _WRONG_PROTOCOL
        with self.hall.calling(connection):
            answer = self.worker.submit(text)
            await asyncio.wait((answer, self.stopping), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return "this process ends"
        try:
            async with asyncio_timeout(_TAKING):
                await connection.send(answer.result())
        except asyncio.TimeoutError:
            connection.transport.abort()
        return ""

    async def close(self, server: Server) -> None:
        """Let clients take the replies that are ready, and tell all that the server goes away."""
        server.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.wait_closed(), _FAREWELL)


async def serve(
    load: Loader,
    port: int,
    *,
    host: str = "0.0.0.0",
    listening: Callable[[int], None] | None = None,
    request_limit: int = REQUEST_LIMIT,
    token: str = "",
) -> bool:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    load : callable
        Makes the handler of a mode; called in the worker thread once the port is bound, at the first call.
    port : int
        Port to bind.
    host : str
        Address to bind; the platform needs all of them, a simulator only the loopback.
    listening : callable, optional
        Told the port as soon as it is bound.
    request_limit : int
        Longest request in bytes; the connection of a longer one is closed with code 1009, which the platform reports.
    token : str
        What a client must bring, see `admission`; none by default, since COINSTAC has none.

    Returns
    -------
    bool
        Whether a call was still being computed when the signal came.

    Raises
    ------
    OSError
        If the port cannot be bound.
    """
    service = _Service(load, token)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, service.stop)
    server = await listen(
        service.attend,
        host,
        port,
        # Browsers name the page that connects; the platform does not. No page shall call a site's computation.
        origins=[None],
        process_request=service.hall.check,
        create_connection=partial(Guest, service.hall),  # type: ignore[arg-type]  # the library calls it, no more
        max_size=request_limit,
        max_queue=1,
        ping_interval=None,  # the platform's client may be too busy to answer one for minutes
        close_timeout=_FAREWELL,
        compression=None,
        server_header=None,
        logger=_transport_log,
    )
    if listening:
        listening(port)
    await service.stopping
    await service.close(server)
    return service.worker.busy


def run(
    load: Loader,
    port: int,
    *,
    host: str = "0.0.0.0",
    listening: Callable[[int], None] | None = None,
    token: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT, and leave the process even if a call is still being computed; see `serve`."""
    busy = asyncio.run(serve(load, port, host=host, listening=listening, token=token))
    if busy:
        # Shutting the interpreter down under a thread that is inside native code would crash it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
