"""What comes with a request: read up to its limit, as strictly as everything that others wrote, by its schema."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
from starlette.requests import Request

from computation.checks import parse_json
from computation.errors import IdentityError
from service.web.operations import Operation
from service.web.problems import Problem
from service.web.schemas import NAMED
from service.web.shapes import Schema, fault

__all__ = ["bearer", "idempotency_key", "is_small", "parsed", "pieces", "read_content", "read_query"]

#: Seconds for which a sender may be silent in the middle of a body.
_PATIENCE = 30.0
#: Bytes of a body that is read before it is known who sent it: then one thread can do all that is to be done.
_FROM_ANYBODY = 65_536
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_BEARER = re.compile(r"bearer +([\x21-\x7e]{1,8192})", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


def bearer(request: Request) -> str:
    """Return the token of a request.

    Raises
    ------
    IdentityError
        If there is none.
    Problem
        If there is an `Authorization` that is none, or two.
    """
    given = request.headers.getlist("authorization")
    if not given:
        raise IdentityError("there is no token; wanted the header Authorization: Bearer and one: log in")
    found = _BEARER.fullmatch(given[0])
    if len(given) > 1 or not found:
        text = "the header Authorization is none that is known here; wanted 'Bearer' and a token, once"
        raise Problem(401, "unauthorised", text, headers={"WWW-Authenticate": "Bearer"})
    return found[1]


def idempotency_key(request: Request) -> None:
    """Refuse an `Idempotency-Key` that cannot be kept."""
    given = request.headers.getlist("idempotency-key")
    if len(given) > 1 or not all(map(_KEY.fullmatch, given)):
        raise Problem(
            422, "idempotency_key", "the header Idempotency-Key is none; wanted 1 to 128 characters of ASCII, once"
        )


def read_query(request: Request, operation: Operation) -> dict[str, Any]:
    """Return the query's values by their schemas, and defaults.

    Raises
    ------
    Problem
        If a name is unknown or comes twice, or a value cannot be.
    """
    wanted, given = operation.parameters, request.query_params.multi_items()
    names = [name for name, _ in given]
    if unknown := [name for name in names if name not in wanted]:
        known = ", ".join(wanted) or "none"
        raise _malformed(unknown[0][:40], f"no such parameter (there are: {known})")
    if len(set(names)) < len(names):
        raise _malformed("query", "each parameter once")
    values = {name: _value(name, text, wanted[name]) for name, text in given}
    if missing := [name for name in operation.required if name not in values]:
        raise _malformed(missing[0], "a value, which is missing")
    return {**{name: schema["default"] for name, schema in wanted.items() if "default" in schema}, **values}


def _value(name: str, text: str, schema: Schema) -> Any:
    value: Any = int(text) if schema.get("type") == "integer" and _WHOLE.fullmatch(text) else text
    if found := fault(value, schema, NAMED, name):
        raise _malformed(*found)
    return value


def is_small(request: Request) -> bool:
    """Tell whether a body is announced as one that may be read from anybody."""
    announced = request.headers.get("content-length", "")
    return announced.isdigit() and len(announced) < 10 and int(announced) <= _FROM_ANYBODY


async def read_content(request: Request, most: int) -> bytes:
    """Return the body as it came; raises as `pieces`."""
    return b"".join([piece async for piece in pieces(request, most)])


def parsed(request: Request, content: bytes, operation: Operation) -> Any:
    """Return the body's JSON; nothing where the operation takes none.

    Raises
    ------
    Problem
        If it is of another type, no JSON, or not what its schema says.
    """
    if operation.body is None:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "media_type", "the body is no plain JSON; wanted Content-Type: application/json")
    try:
        value = parse_json(content)
    except ValueError as error:
        why = "it is no JSON in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Problem(400, "json", f"the body cannot be read: {why[:200]}") from None
    if found := fault(value, operation.body, NAMED):
        raise _malformed(found[0] or "body", found[1])
    return value


async def pieces(request: Request, most: int) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Raises
    ------
    Problem
        If there are more bytes than `most`, its sender falls silent, or goes.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > 15 or int(announced) > most):
        raise _too_large(most)
    came, more = 0, True
    while more:
        piece, more = await _next(request)
        came += len(piece)
        if came > most:
            raise _too_large(most)
        yield piece


async def _next(request: Request) -> tuple[bytes, bool]:
    """Return what has come, and whether there is more."""
    # Not the request's `stream`, which is asked twice more after the end: each time with a timer for silence.
    try:
        with anyio.fail_after(_PATIENCE):
            message = await request.receive()
    except TimeoutError:
        raise Problem(408, "silence", f"nothing came for {_PATIENCE:.0f} s in the middle of the body") from None
    if message["type"] != "http.request":
        raise Problem(400, "gone", "the sender went in the middle of the body")
    return message.get("body", b""), message.get("more_body", False)


def _too_large(most: int) -> Problem:
    return Problem(413, "size", f"the body has more than {most} bytes", {"most": most}, {"Connection": "close"})


def _malformed(where: str, wanted: str) -> Problem:
    shown: Mapping[str, Any] = {"field": where}
    return Problem(422, "malformed", f"{where} cannot be; wanted {wanted}", shown)
