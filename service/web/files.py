"""Files under URLs that the service has signed itself: sent and fetched in pieces, by whoever bears the URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from service.blobs.files import Files
from service.clock import Clock
from service.web import bodies
from service.web.answering import told
from service.web.problems import Problem

__all__ = ["PATH", "endpoint"]

PATH = "/v1/blobs/{key:path}"
#: Bytes that are written at once, and of the largest file: beyond that no URL is signed.
_PIECE, _LARGEST = 2**20, 2**40


def endpoint(files: Files, clock: Clock) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers `PATH`."""

    async def endpoint(request: Request) -> Response:
        verb = _send if request.method == "PUT" else _fetch
        return await told(request, "/v1/blobs", lambda: verb(files, clock, request))

    return endpoint


async def _send(files: Files, clock: Clock, request: Request) -> Response:
    key, query = request.path_params["key"], dict(request.query_params)
    size = query.get("size", "")
    announced = request.headers.get("content-length", size)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "media_type", "the file is packed; wanted its own bytes")
    with anyio.CancelScope() as whole:
        stack = ExitStack()
        try:
            incoming = await run_in_threadpool(stack.enter_context, files.incoming(key, query, clock()))
            if announced != size:
                raise Problem(422, "size", f"the file is announced with {size} bytes; Content-Length says otherwise")
            await _take(request, incoming.write)
        except BaseException as error:
            whole.shield = True  # what was begun is taken back, also when the sender has gone
            await run_in_threadpool(stack.__exit__, type(error), error, error.__traceback__)
            raise
        whole.shield = True
        await run_in_threadpool(stack.close)
    return Response(status_code=201)


async def _take(request: Request, write: Callable[[bytes], None]) -> None:
    held = bytearray()
    async for piece in bodies.pieces(request, _LARGEST):
        held += piece
        if len(held) >= _PIECE:
            await run_in_threadpool(write, bytes(held))
            held.clear()
    await run_in_threadpool(write, bytes(held))


async def _fetch(files: Files, clock: Clock, request: Request) -> Response:
    key, query = request.path_params["key"], dict(request.query_params)
    content, name = await run_in_threadpool(files.outgoing, key, query, clock())
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    if isinstance(content, bytes):
        headers["Content-Disposition"] = f'attachment; filename="{name}"' if name else "attachment"
        return Response(content, headers=headers, media_type="application/octet-stream")
    return FileResponse(content, headers=headers, media_type="application/octet-stream", filename=name or "file")
