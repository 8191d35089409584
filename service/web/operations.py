"""What the API can do: one `Operation` for each verb of each path, from which routes and description are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.identity.principal import Principal
from service.protocol import canonical
from service.web.shapes import Schema

if TYPE_CHECKING:
    from service.web.served import Served

__all__ = ["LONGEST_WAIT", "Call", "Encoded", "Operation", "Reply", "encode", "page_query", "ref"]

#: Seconds for which a request may wait for news.
LONGEST_WAIT = 25

#: Bytes of a body, unless its operation says otherwise.
_LARGEST_BODY = 256 * 1024


@dataclass(frozen=True)
class Call:
    """A request whose path, query and body have been read by their schemas.

    Attributes
    ----------
    served : Served
        What it is asked of.
    who : Principal
        Who asks; of an operation that is open to anybody, nobody.
    path : mapping of str
        What stands in the path's braces.
    query : mapping
        What was asked for, and defaults.
    body : object
        Plain JSON values.
    headers : mapping of str
        Lower-case names.
    token : str
        With which it came.
    address : str
        From where it came.
    """

    served: Served
    who: Principal
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any
    headers: Mapping[str, str]
    token: str = field(default="", repr=False)
    address: str = ""

    @property
    def run(self) -> str:
        """The run in the path."""
        return self.path["run"]

    @property
    def number(self) -> int:
        """The step in the path; one that is no number is one that no run has."""
        text = self.path["number"]
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -2


@dataclass(frozen=True)
class Encoded:
    """A JSON value as the bytes that are sent, so that it is encoded once for several answers.

    Attributes
    ----------
    content : bytes
        As `encode` made them.
    """

    content: bytes = field(repr=False)


def encode(body: Any) -> Encoded:
    """Return plain JSON values in their canonical form; an object's own values may have been encoded before."""
    if not isinstance(body, dict) or not any(isinstance(value, Encoded) for value in body.values()):
        return Encoded(canonical(body).encode())
    parts = [canonical(name).encode() + b":" + _encoded(body[name]).content for name in sorted(body)]
    return Encoded(b"{" + b",".join(parts) + b"}")


def _encoded(value: Any) -> Encoded:
    return value if isinstance(value, Encoded) else encode(value)


@dataclass(frozen=True)
class Reply:
    """What is answered.

    Attributes
    ----------
    body : object
        Plain JSON values, or what `encode` takes or made; None for nothing.
    status : int
        HTTP's.
    headers : mapping of str
        More headers.
    pending : bool
        Whether it only says that there is no news; whoever waits gets another one.
    later : callable, optional
        Makes that other one, for a caller who is verified anew; without it the request is answered once more.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pending: bool = False
    later: Callable[[Principal], Reply] | None = None


@dataclass(frozen=True)
class Operation:
    """A verb of a path.

    Attributes
    ----------
    method, path : str
        `GET` and so on; a path with names in braces.
    name, summary : str
        For the description.
    handler : callable
        Answers; it runs in a thread.
    answers : mapping of int to schema
        What comes with each status of success; None is nothing.
    problems : tuple of int
        Statuses of its refusals, beside those that every operation has.
    query : mapping of schema
        Parameters that may be given.
    required : tuple of str
        Those that must.
    body : schema, optional
        Of the request's body.
    most : int
        Bytes of that body.
    open : bool
        Whether anybody may ask.
    waits : bool
        Whether `?wait=` holds it until there is news.
    keyed : bool
        Whether `Idempotency-Key` counts.
    costly : bool
        Whether it checks or keeps a password, which is made to take long.
    local : bool
        Whether it is there only where the service keeps the accounts itself.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Callable[[Call], Reply]
    answers: Mapping[int, Schema | None]
    problems: tuple[int, ...] = ()
    query: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    body: Schema | None = None
    most: int = _LARGEST_BODY
    open: bool = False
    waits: bool = False
    keyed: bool = False
    costly: bool = False
    local: bool = False

    @property
    def parameters(self) -> Mapping[str, Schema]:
        """All query parameters, also `wait`."""
        return {**self.query, "wait": _WAIT} if self.waits else self.query


_WAIT: Schema = {
    "type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0,
    "description": "Seconds to wait for news; the answer without news comes then.",
}  # fmt: skip


def ref(name: str) -> Schema:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_query(most: int = 200) -> dict[str, Schema]:
    """Return the parameters of a list that comes in pages."""
    return {
        "after": {"type": "string", "maxLength": 200, "default": "", "description": "The cursor of the page before."},
        "limit": {"type": "integer", "minimum": 1, "maximum": most, "default": 50},
    }
