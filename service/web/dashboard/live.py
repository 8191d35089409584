"""Pages that keep up with a run: a pulse that changes with it, streamed or asked for; the page then fetches itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from computation.errors import MeshNetError
from service.web.dashboard import guard, pulse
from service.web.dashboard.asking import Ask, page, session_of
from service.web.dashboard.front import Front
from service.web.waiting import Waiting

__all__ = ["routes"]

#: Seconds after which a stream ends and the browser begins another one; and between two signs of life in it.
_LONGEST, _SIGN = 600.0, 15.0
#: Seconds between two pulses of one stream: a page that changes faster cannot be read.
_LEAST = 0.5
#: Streams at once; browsers beyond that ask again and again.
_MOST = 500


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    streams = _Streams(front)
    return [
        page(front, "/pulse", _all),
        page(front, "/runs/{run}/pulse", _one),
        Route("/runs/{run}/live", streams.answer, methods=["GET"]),
    ]


def _one(ask: Ask) -> Response:
    found = pulse.of_run(ask.desk, ask.who, ask.path("run"))
    return JSONResponse(pulse.told(found, ask.desk.clock()), headers=dict(guard.HEADERS))


def _all(ask: Ask) -> Response:
    return JSONResponse(pulse.told(pulse.of_list(ask.desk, ask.who), ask.desk.clock()), headers=dict(guard.HEADERS))


class _Streams:
    """Server-sent events for the pages of runs."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._waiting = Waiting(front.bell)
        self._open = 0

    async def answer(self, request: Request) -> Response:
        """Begin a stream; 204 tells the browser to ask by itself instead."""
        asked = await run_in_threadpool(session_of, self._front, request)
        if asked is None or not self._front.streams or self._open >= _MOST:
            return Response(status_code=204, headers=dict(guard.HEADERS))
        ask = Ask(self._front, request, *asked)
        return StreamingResponse(self._pulses(ask), headers=dict(guard.HEADERS), media_type="text/event-stream")

    async def _pulses(self, ask: Ask) -> AsyncIterator[str]:
        run, last, loop = ask.path("run"), "", asyncio.get_running_loop()
        ends = loop.time() + _LONGEST
        spoke = loop.time()
        self._open += 1
        try:
            yield "retry: 2000\n\n"
            with self._waiting.of(run) as ear:
                while loop.time() < ends:
                    ear.clear()
                    found = await run_in_threadpool(self._look, ask, run)
                    if not found:
                        return
                    if found != last:
                        last, spoke = found, loop.time()
                        yield f"event: pulse\ndata: {json.dumps(pulse.told(found, ask.desk.clock()))}\n\n"
                        await asyncio.sleep(_LEAST)
                    elif loop.time() - spoke > _SIGN:
                        spoke = loop.time()
                        yield ": still here\n\n"
                    await ear.wait(_SIGN)
        finally:
            self._open -= 1

    def _look(self, ask: Ask, run: str) -> str:
        """Return the pulse, or nothing once the session or the run is over for the asker."""
        try:
            found = session_of(self._front, ask.request)
            return pulse.of_run(ask.desk, found[0], run) if found else ""
        except MeshNetError:
            return ""
