"""The ASGI application: the API, the description of it, files under signed URLs, and whatever pages are given.

Embedded, much as `serving` makes it::

    place = Place(data)
    bell, local = place.bell(), place.local()
    app = application(Served(place.desk(bell), local, local=local, bell=bell), pages)
    uvicorn.run(app, port=port, access_log=False, server_header=False, timeout_graceful_shutdown=3)

uvicorn's own access log must be off, as it writes addresses with signatures in them; the logger ``service`` has a line
for each request. It must not wait for its connections when it ends: some are held for news. On Lambda, as in `aws`::

    served = Served(Desk(store, blobs), Cognito(issuer, clients), longest_wait=0)
    handler = Mangum(application(served, streams=False), lifespan="off")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from service.blobs.files import Files
from service.protocol import canonical
from service.web import files, live, openapi
from service.web.answering import Answering, told
from service.web.operations import Operation
from service.web.problems import Problem
from service.web.served import Served
from service.web.straight import Straight
from service.web.waiting import Waiting

__all__ = ["application", "pages_alone"]


def application(served: Served, pages: Sequence[BaseRoute] = (), streams: bool = True) -> Starlette:
    """Return the application.

    Parameters
    ----------
    served : Served
        What it serves.
    pages : sequence of routes
        More of them, such as a dashboard's.
    streams : bool
        Whether answers may go on for minutes; not on Lambda.
    """
    waiting = Waiting(served.bell)
    answering = Answering(served, waiting)
    routes: list[BaseRoute] = [
        Route(path, answering.endpoint(path, verbs), methods=list(verbs))
        for path, verbs in _by_path(served.local is not None).items()
    ]
    routes.append(Route(openapi.PATH, _description(served.local is not None), methods=["GET"]))
    if isinstance(served.desk.blobs, Files):
        sent = files.endpoint(served.desk.blobs, served.desk.clock)
        routes.append(Route(files.PATH, sent, methods=["GET", "PUT"]))
    if streams:
        routes.append(Route(live.PATH, live.endpoint(served, waiting), methods=["GET"]))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        waiting.close()

    made = _made([*routes, *pages], lifespan, [Middleware(Straight, routes=routes)])
    made.state.served, made.state.waiting = served, waiting
    return made


def pages_alone(pages: Sequence[BaseRoute]) -> Starlette:
    """Return an application without the API, such as that of a site's own machine."""
    return _made(pages)


def _made(
    routes: Sequence[BaseRoute], lifespan: Lifespan[Starlette] | None = None, middleware: Sequence[Middleware] = ()
) -> Starlette:
    handlers = {HTTPException: _nowhere}
    made = Starlette(routes=list(routes), middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
    made.router.redirect_slashes = False
    return made


def _by_path(local: bool) -> dict[str, dict[str, Operation]]:
    found: dict[str, dict[str, Operation]] = {}
    for operation in openapi.offered(local):
        found.setdefault(operation.path, {})[operation.method] = operation
    return found


def _description(local: bool) -> Callable[[Request], Awaitable[Response]]:
    content = canonical(openapi.document(local))

    async def description(request: Request) -> Response:
        async def answer() -> Response:
            return Response(content, media_type="application/json")

        return await told(request, openapi.PATH, answer)

    return description


async def _nowhere(request: Request, error: Exception) -> Response:
    """Answer a path or a verb that there is not."""
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    texts = {404: "there is nothing of that name", 405: f"that verb does nothing here; {headers.get('Allow', '')} do"}
    problem = Problem(error.status_code, "unknown", texts.get(error.status_code, error.detail), headers=headers)

    async def answer() -> Response:
        raise problem

    return await told(request, "?", answer)
