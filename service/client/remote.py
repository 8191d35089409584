"""A run as a service shows it: each verb of a site as requests, and each answer read by its schema."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from computation.errors import ServiceError
from service.client.journal import Pending
from service.client.link import Link, Refused
from service.client.replies import Invitation, Linked, Moment, Reserved, Told
from service.protocol.identifiers import is_identifier

__all__ = ["RemoteRun", "find", "invitation"]

#: Bytes of all files that go with a commit itself, and of any file that comes with a result.
_SENT_INLINE, _INLINE = 512 * 1024, 2**20
#: Times that a file is reserved and sent, or fetched, in one go, since a URL may have become too old on the way.
_TIMES = 3
#: Made once: this runs at every site in every round.
_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_OPEN, _TAKING_PART = ("inviting", "running", "paused"), ("invited", "accepted", "inactive")


def invitation(link: Link, run: str) -> Invitation:
    """Return what a site is asked to take part in.

    Raises
    ------
    Refused
        If there is no such run for this site.
    MeshNetError
        If the service shows it in no sound form.
    """
    if not is_identifier(run):
        raise ServiceError("the run's id is none; copy it from its invitation")
    found = Invitation.parse(link.get(f"/v1/runs/{run}"))
    if found.id != run:
        raise ServiceError("the service shows another run than the one that was asked for; tell its administrator")
    return found


def find(link: Link) -> list[Invitation]:
    """Return the runs that have not ended and that this site can take part in, newest first; errors as above."""
    listed = link.get("/v1/runs", limit=50).get("items")
    lines = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    found = [invitation(link, str(one.get("id"))) for one in lines[:50] if one.get("state") in _OPEN]
    return [one for one in found if one.member in _TAKING_PART]


class RemoteRun:
    """One run, for one site; see `site.Run`.

    Parameters
    ----------
    link : Link
        To the service.
    run : str
        Id of the run.
    """

    def __init__(self, link: Link, run: str) -> None:
        self._link, self._at = link, f"/v1/runs/{run}"

    def moment(self) -> Moment:
        """Return where the run stands."""
        return Moment.parse(self._link.get(f"{self._at}/round"))

    def accept(self, consent: str, answer: Pending) -> None:
        """Consent to the spec of this digest, with the answer to the join."""
        self._link.post(f"{self._at}/accept", self._body(answer, consent=consent))

    def commit(self, answer: Pending, wait: int = 0) -> Told | None:
        """Commit an answer, once more is as good as once; return what is published of its step, as `told` does."""
        path, body = f"{self._at}/rounds/{answer.step}/updates", self._body(answer, base=answer.base)
        made = self._link.post(path, body, seconds=wait, query=_news(wait))
        return Told.parse(made["result"]) if "result" in made else None

    def _body(self, answer: Pending, **facts: str) -> bytes:
        """Return facts, message and files as a body: small ones in it, others by what was reserved for them."""
        body: dict[str, Any] = {**facts, "message": dict(answer.message)}
        if sum(map(len, answer.files.values())) <= _SENT_INLINE:
            return _with_files(_encoded(body), answer.files)
        uploads = [self._sent(answer.step, name, content) for name, content in answer.files.items()]
        return _encoded({**body, "uploads": uploads}).encode()

    def _sent(self, step: int, name: str, content: bytes) -> str:
        """Reserve room for a file, send it there, and return the reservation's id."""
        told = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for _ in range(_TIMES):
            reserved = Reserved.parse(self._link.post(f"{self._at}/rounds/{step}/uploads", told))
            status = self._link.put(reserved.send.url, reserved.send.headers, content)
            # 412 and 409: it is there already, since the answer to an earlier attempt was lost; the commit looks.
            if status < 300 or status in (409, 412):
                return reserved.id
        raise ServiceError(f"a file cannot be sent to where the service keeps files (status {status}); try again later")

    def told(self, step: int, wait: int = 0) -> Told | None:
        """Return what was published of a step, as soon as it is; None if it is not after so many seconds."""
        raw = self._link.get(f"{self._at}/rounds/{step}/result", seconds=wait, **_news(wait))
        return Told.parse(raw) if "message" in raw else None

    def file(self, step: int, told: Told, name: str) -> bytes:
        """Return a file of a result, which is the one that the result names."""
        for _ in range(_TIMES):
            one = next(file for file in told.files if file.name == name)
            if one.content is not None:
                return one.checked(one.content)
            try:
                return self._fetched(one)
            except Refused:
                told = self.told(step) or told
        raise ServiceError("a file of the run cannot be fetched from where the service keeps files; try again later")

    def _fetched(self, one: Linked) -> bytes:
        return one.checked(self._link.fetch(one.fetch.url, one.fetch.headers, one.size))

    def rejoin(self) -> None:
        """Come back after having been away for long."""
        self._link.post(f"{self._at}/rejoin")

    def tell(self, status: str) -> None:
        """Say that this site is alive, and what it is doing; it need not arrive."""
        self._link.once(f"{self._at}/heartbeat", {"status": status})


def _with_files(text: str, files: Mapping[str, bytes]) -> bytes:
    """Return a body with files in it as base64: nothing in that is to be escaped, and to look for it takes its time."""
    inline = [b'%s:"%s"' % (_encoded(name).encode(), base64.b64encode(content)) for name, content in files.items()]
    return b'%s,"inline":{%s}}' % (text.removesuffix("}").encode(), b",".join(inline))


def _news(wait: int) -> dict[str, int]:
    """Return the query that asks for a result with its small files, as soon as it is there."""
    return {"inline": _INLINE, **({"wait": wait} if wait else {})}
