"""A run's audit trail as it is written, by server-sent events; who was cut off goes on after the last line seen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from computation.errors import ServiceError
from service.cases import reading
from service.protocol import canonical
from service.protocol.records import ENDED
from service.web import bodies, views
from service.web.answering import told
from service.web.served import Served
from service.web.waiting import Waiting

__all__ = ["PATH", "endpoint", "lines"]

PATH = "/v1/runs/{run}/events/stream"
#: Seconds of silence after which a line without meaning keeps proxies from hanging up.
_KEEP_ALIVE = 15.0
#: Seconds after which the reader has to come again, so that no connection outlives a restart for long.
_LONGEST = 900.0
_PAGE = 100


def endpoint(served: Served, waiting: Waiting) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers `PATH`."""

    async def answer(request: Request) -> Response:
        token = bodies.bearer(request)
        run = request.path_params["run"]
        after = request.headers.get("last-event-id", "") or request.query_params.get("after", "")
        # What cannot be seen is refused before the stream begins, with a status.
        await run_in_threadpool(_page, served, token, run, after[:200])
        stream = lines(served, waiting, request, token, after[:200])
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    async def endpoint(request: Request) -> Response:
        return await told(request, PATH, lambda: answer(request))

    return endpoint


async def lines(served: Served, waiting: Waiting, request: Request, token: str, after: str) -> AsyncIterator[str]:
    """Yield the events after a cursor, and those to come, until the run has ended or the token has.

    Parameters
    ----------
    served, waiting : Served, Waiting
        What is served, and where to wait.
    request : Request
        Its path names the run.
    token : str
        Verified again for each look.
    after : str
        The cursor.
    """
    run, begun, spoke = request.path_params["run"], time.monotonic(), time.monotonic()
    with waiting.of(run) as ear:
        while time.monotonic() - begun < _LONGEST and not await request.is_disconnected():
            ear.clear()
            try:
                found, cursor, ended = await run_in_threadpool(_page, served, token, run, after)
            except ServiceError:
                return
            for one in found:
                yield f"id: {one['id']}\nevent: {one['kind']}\ndata: {canonical(one)}\n\n"
            if found:
                after, spoke = cursor, time.monotonic()
                continue
            if ended:
                yield "event: end\ndata: {}\n\n"
                return
            if time.monotonic() - spoke > _KEEP_ALIVE:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await ear.wait(_KEEP_ALIVE)


def _page(served: Served, token: str, run: str, after: str) -> tuple[list[dict[str, object]], str, bool]:
    who = served.verifier.verify(token)
    # Whether it has ended is asked first: what was written before that is then on the page.
    ended = reading.run(served.desk, who, run).state in ENDED
    found, cursor = reading.events(served.desk, who, run, after, _PAGE)
    return [views.event(one) for one in found], cursor, ended
