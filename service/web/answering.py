"""From a request to its answer: the same for every operation."""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from service.clock import now
from service.identity.principal import Principal
from service.protocol import identifier
from service.web import bodies, problems
from service.web.costly import Costly
from service.web.operations import Call, Encoded, Operation, Reply, encode
from service.web.problems import Problem
from service.web.served import Served
from service.web.waiting import Waiting

__all__ = ["LOG", "Answering", "told"]

#: One line for each request: its id, verb, route, status, time, and where it failed. No address that a request named,
#: no body, no header, no name and no subject is ever in one.
LOG = logging.getLogger("service")

_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOBODY = Principal("nobody", frozenset())


class Answering:
    """Answers requests for operations.

    Parameters
    ----------
    served : Served
        What is served.
    waiting : Waiting
        Where requests wait for news.
    """

    def __init__(self, served: Served, waiting: Waiting) -> None:
        self.served, self.waiting = served, waiting
        self._costly = Costly()

    def endpoint(self, path: str, operations: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers a path, whatever the verb."""

        async def endpoint(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await told(request, path, lambda: self._answer(request, operations[method]))

        return endpoint

    async def _answer(self, request: Request, operation: Operation) -> Response:
        token = "" if operation.open else bodies.bearer(request)
        query = bodies.read_query(request, operation)
        if operation.keyed:
            bodies.idempotency_key(request)
        # Only the first look holds the body, which may be large: a request may wait for long.
        return await self._patiently(
            request,
            operation,
            query,
            token,
            partial(self._once, request, operation, query, await self._content(request, operation, token), token),
        )

    async def _content(self, request: Request, operation: Operation, token: str) -> bytes:
        """Return the body; nobody's megabytes are read before it is known who sends them."""
        if operation.body is None:
            return b""
        if not operation.open and not bodies.is_small(request):
            await run_in_threadpool(self.served.verifier.verify, token)
        return await bodies.read_content(request, operation.most)

    def _once(
        self, request: Request, operation: Operation, query: Mapping[str, Any], content: bytes, token: str
    ) -> Reply:
        """Verify who asks and answer; who waits is verified each time that there may be news."""
        who = _NOBODY if operation.open else self.served.verifier.verify(token)
        body = bodies.parsed(request, content, operation)
        address = request.client.host if request.client else ""
        path = _named(request.path_params)
        return operation.handler(Call(self.served, who, path, query, body, request.headers, token, address))

    async def _patiently(
        self, request: Request, operation: Operation, query: Mapping[str, Any], token: str, once: Callable[[], Reply]
    ) -> Response:
        """Answer at once, or as soon as there is news, or when the time is up."""
        # What is costly has a few threads of its own, so that it takes none from the others.
        run = self._costly.run if operation.costly else run_in_threadpool
        seconds = min(query.get("wait", 0), self.served.longest_wait)
        if not seconds or self.waiting.full:
            return _response(request, await run(once))
        until, waited = time.monotonic() + seconds, False
        with self.waiting.of(str(request.path_params["run"])) as ear:
            while True:
                ear.clear()
                reply = await run(once)
                response, left = _response(request, reply), until - time.monotonic()
                old = reply.pending or response.status_code == 304
                if not old or left <= 0 or (waited and await request.is_disconnected()):
                    return response
                waited = True
                if reply.later:
                    once = partial(self._again, reply.later, token)
                await ear.wait(left)

    def _again(self, later: Callable[[Principal], Reply], token: str) -> Reply:
        return later(self.served.verifier.verify(token))


def _named(path: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in the path's braces, if a store can be asked for it."""
    if not all(str(value).isprintable() and len(str(value)) <= 200 for value in path.values()):
        raise Problem(404, "unknown", "there is nothing of that name")
    return {name: str(value) for name, value in path.items()}


def _response(request: Request, reply: Reply) -> Response:
    headers = {"Cache-Control": "no-store", **reply.headers}
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    content = (reply.body if isinstance(reply.body, Encoded) else encode(reply.body)).content
    if request.method in ("GET", "HEAD") and reply.status == 200:
        # The client may keep it, but asks each time: whether it may still see it is decided anew.
        headers = {**headers, "Cache-Control": "private, no-cache", "ETag": _tag(content)}
        if headers["ETag"] in _tags(request):
            return Response(status_code=304, headers=headers)
    return Response(content, reply.status, headers, "application/json")


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _tags(request: Request) -> list[str]:
    given = request.headers.get("if-none-match", "")
    return [one.strip().removeprefix("W/") for one in given.split(",")]


async def told(request: Request, route: str, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Answer, turn what goes wrong into a problem, give the request an id, and write its line into the log.

    Parameters
    ----------
    request : Request
        The request.
    route : str
        What the log calls it; never its own path.
    answer : callable
        Answers it.
    """
    identity, begun, failure = identifier(now()), time.monotonic(), ""
    try:
        response = await answer()
    except Exception as error:
        problem = problems.from_error(error)
        response = problems.response(problem, identity)
        failure = _where(error) if problem.status >= 500 else problem.code
    response.headers["X-Request-Id"] = identity
    response.headers["X-Content-Type-Options"] = "nosniff"
    LOG.log(
        logging.ERROR if response.status_code >= 500 else logging.INFO,
        "request=%s method=%s route=%s status=%d ms=%d%s",
        identity, request.method if request.method in _VERBS else "?", route, response.status_code,
        1000 * (time.monotonic() - begun), f" why={failure}" if failure else "",
    )  # fmt: skip
    return response


def _where(error: BaseException) -> str:
    """Say which kind of exception came from which lines; its text can hold anything."""
    lines = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    cause = f"<-{type(error.__cause__).__name__}" if error.__cause__ else ""
    return f"{type(error).__name__}{cause}@{'>'.join(lines[-6:])}"
