"""What a service may say to a site, read by a fixed schema with limits.

A newer service may say more than is known here, so what is not known is left; what is known must be what it should.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from computation.checks import is_digest, is_text
from computation.coinstac.carried import LARGEST, MOST
from computation.errors import MessageError
from computation.wire.messages import MOST_ROUNDS
from computation.wire.reader import Reader
from service.protocol import Spec, canonical, digest_of
from service.protocol.identifiers import is_identifier
from service.protocol.records import RunState, StepState
from service.protocol.spec import is_site

__all__ = ["Invitation", "Linked", "Moment", "Reserved", "Signed", "Told"]

_STATES = get_args(RunState)
_MEMBER = ("", "invited", "accepted", "declined", "inactive", "left", "removed")
_LONGEST_URL = 8_000


@dataclass(frozen=True)
class Invitation:
    """What a site is asked to take part in.

    Attributes
    ----------
    id, state : str
        Of the run.
    site, member : str
        What this site is called in it, and the state of its membership; empty where it is none.
    spec : Spec
        What the run is to be.
    """

    id: str
    state: str
    site: str
    member: str
    spec: Spec

    @classmethod
    def parse(cls, raw: Any) -> Invitation:
        """Read a run, whose spec must have the digest that is said; raises `MeshNetError`."""
        reader = Reader("run", raw)
        own = reader.pop("you")
        own = Reader("membership", own) if isinstance(own, Mapping) else None
        spec = Spec.parse(reader.pop("spec"))
        invitation = cls(
            id=_identifier(reader, "id"),
            state=reader.one_of("state", _STATES),
            site=own.text("site", 64) if own else "",
            member=own.one_of("state", _MEMBER) if own else "",
            spec=spec,
        )
        if reader.digest("digest") != spec.digest:
            raise MessageError("the run's digest is not that of its spec; nothing was accepted: tell its coordinator")
        if invitation.site and not is_site(invitation.site):
            raise MessageError("the run calls this site by a name that none may have; tell its coordinator")
        return invitation


@dataclass(frozen=True)
class Moment:
    """Where a run stands.

    Attributes
    ----------
    state, reason, detail : str
        Of the run, and why it ended.
    step : int
        The newest.
    open : bool
        Whether it takes commits.
    expected : bool
        Whether this site may commit to it.
    base : str
        Digest of the result that its updates answer; empty at the join.
    member : str
        State of this site's membership.
    """

    state: str
    reason: str
    detail: str
    step: int
    open: bool
    expected: bool
    base: str
    member: str

    @classmethod
    def parse(cls, raw: Any) -> Moment:
        """Read where a run stands; raises `MessageError`."""
        reader = Reader("run's standing", raw)
        run, step, own = (Reader(f"standing's {name}", reader.pop(name)) for name in ("run", "step", "you"))
        return cls(
            state=run.one_of("state", _STATES),
            reason=run.text("reason"),
            detail=_sentence(run, "detail"),
            step=step.whole("number", MOST_ROUNDS + 3),
            open=step.one_of("state", get_args(StepState)) == "open",
            expected=own.flag("expected"),
            base=_digest_or_none(step, "base"),
            member=own.one_of("state", _MEMBER),
        )


@dataclass(frozen=True)
class Signed:
    """A URL that may be used, and the headers that it wants."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any) -> Signed:
        """Read a signed URL; raises `MessageError`."""
        reader = Reader("signed URL", raw)
        return cls(reader.text("url", _LONGEST_URL), reader.texts_by_name("headers", 32, 100))


@dataclass(frozen=True)
class Reserved:
    """Room for a file: its id, and where to send it."""

    id: str
    send: Signed

    @classmethod
    def parse(cls, raw: Any) -> Reserved:
        """Read a reservation; raises `MessageError`."""
        reader = Reader("reservation", raw)
        return cls(_identifier(reader, "id"), Signed.parse(reader.pop("send")))


@dataclass(frozen=True)
class Linked:
    """A file of a result: where to fetch it, or its bytes where they came along."""

    name: str
    size: int
    sha256: str
    fetch: Signed
    content: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, raw: Any) -> Linked:
        """Read a file of a result; raises `MessageError`."""
        reader = Reader("result's file", raw)
        content = reader.pop("content")
        return cls(
            name=reader.text("name", 128),
            size=reader.whole("size", LARGEST),
            sha256=reader.digest("sha256"),
            fetch=Signed.parse(reader.pop("fetch")),
            content=None if content is None else _bytes(content),
        )

    def checked(self, content: bytes) -> bytes:
        """Return the file's bytes.

        Raises
        ------
        MessageError
            If they are others.
        """
        if len(content) != self.size or hashlib.sha256(content).hexdigest() != self.sha256:
            raise MessageError("a file of the run is not the one that the service announced; tell its administrator")
        return content


@dataclass(frozen=True)
class Told:
    """What the centre answered to a step.

    Attributes
    ----------
    message : mapping
        Plain JSON values.
    files : tuple of Linked
        What travels with it.
    digest : str
        Of all that.
    last : bool
        Whether the run has succeeded with it.
    """

    message: Mapping[str, Any]
    files: tuple[Linked, ...]
    digest: str
    last: bool = False

    @classmethod
    def parse(cls, raw: Any) -> Told:
        """Read a result, which must have the digest that is said; raises `MessageError`."""
        reader = Reader("result", raw)
        message, listed = reader.pop("message"), reader.pop("files")
        if not isinstance(message, Mapping) or not isinstance(listed, list) or len(listed) > 2 * MOST:
            raise MessageError("the result has no message, or no list of a few files; tell the service's administrator")
        files = tuple(map(Linked.parse, listed))
        named = [[file.name, file.size, file.sha256] for file in files]
        last = reader.flag("last")
        digest = digest_of([canonical(message), named, last])
        if reader.digest("digest") != digest:
            raise MessageError("a result is not what its digest says; tell the service's administrator")
        return cls(dict(message), files, digest, last)


def _identifier(reader: Reader, name: str) -> str:
    value: str = reader.pop(name)
    return reader.take(name, "an id", is_identifier(value), value)


def _digest_or_none(reader: Reader, name: str) -> str:
    value: str = reader.pop(name)
    return reader.take(name, "a SHA-256 digest or nothing", value == "" or is_digest(value), value)


def _sentence(reader: Reader, name: str) -> str:
    value = reader.pop(name)
    return value if is_text(value, 2000) else ""


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise MessageError("a file in a result is not base64; tell the service's administrator") from None
