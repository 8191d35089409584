"""What every case is handled with, and what all of them ask first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from service.blobs.base import Blobs
from service.identity.principal import Principal
from service.protocol import Event, Forbidden, Membership, Run, Step, TooMany, Unknown, identifier
from service.protocol.identifiers import is_identifier
from service.store.base import Contended, Create, Store

__all__ = [
    "EVENTS",
    "Desk",
    "Seat",
    "active",
    "again",
    "content_key",
    "event",
    "milliseconds",
    "newest",
    "seat",
    "state_key",
    "update_key",
    "updates_key",
]

T = TypeVar("T")

#: Every kind of line of an audit trail.
EVENTS = (
    "created",
    "revised",
    "invited",
    "accepted",
    "declined",
    "left",
    "removed",
    "inactive",
    "rejoined",
    "started",
    "paused",
    "resumed",
    "aborted",
    "committed",
    "late",
    "refused",
    "extended",
    "claimed",
    "published",
    "attempt failed",
    "completed",
    "failed",
)

#: Tries of a change that others were faster with; with twelve at once the last one needs a handful.
_TRIES = 40


def milliseconds() -> int:
    """Return the time, as all records have it."""
    return time.time_ns() // 1_000_000


def _nobody(run: str) -> None:
    """Wake nobody: whoever waits looks again by itself."""


@dataclass(frozen=True)
class Desk:
    """Where cases are handled.

    Attributes
    ----------
    store : Store
        Of the records.
    blobs : Blobs
        Of the files.
    clock : callable
        Milliseconds since 1970, UTC.
    ring : callable
        Told the id of a run in which something has happened, so that nobody who waits for it waits for long; what it
        does may get lost.
    ready : callable, optional
        Told the id of a run of whose step everything has come, which only workers have to know; `ring` by default.
    together : callable
        Returns a context in which a thread's changes of records and small files are one, where one place keeps both.
    """

    store: Store
    blobs: Blobs
    clock: Callable[[], int] = milliseconds
    ring: Callable[[str], None] = _nobody
    ready: Callable[[str], None] | None = None
    together: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Seat:
    """Somebody before a run.

    Attributes
    ----------
    run : Run
        The run.
    who : Principal
        The caller.
    member : Membership or None
        What it is in the run; only an administrator need not be anything.
    """

    run: Run
    who: Principal
    member: Membership | None

    @property
    def name(self) -> str:
        """What the audit trail calls the caller."""
        if self.member is None:
            return "administrator"
        return self.member.site or self.member.role

    @property
    def site(self) -> str:
        """The caller's site.

        Raises
        ------
        Forbidden
            If it is none in this run.
        """
        if self.member is None or self.member.role != "site" or not self.who.has("site"):
            raise Forbidden("not_site", "only a site that takes part in the run may do that")
        return self.member.site

    @property
    def undecided(self) -> bool:
        """Whether the caller is asked to take part and has not said yes: what sites brought and made is not for it."""
        return self.member is not None and self.member.state in ("invited", "declined")

    def expect_coordinator(self) -> None:
        """Refuse whoever does not decide about the run.

        Raises
        ------
        Forbidden
            Unless it is the run's own coordinator, or an administrator.
        """
        own = self.member is not None and self.member.role == "coordinator" and self.who.has("coordinator")
        if not own and not self.who.has("administrator"):
            raise Forbidden("not_coordinator", "only the run's own coordinator or an administrator may do that")


def seat(desk: Desk, who: Principal, run: str) -> Seat:
    """Return where somebody stands before a run.

    Raises
    ------
    Unknown
        If there is no such run, or it is none of the caller's business.
    """
    found = desk.store.run(run) if is_identifier(run) else None
    member = desk.store.membership(run, who.sub) if found else None
    if found is None or ((member is None or member.state == "removed") and not who.has("administrator")):
        raise Unknown("run", "there is no such run, or it is not yours to see")
    return Seat(found, who, member)


def newest(desk: Desk, run: Run) -> Step:
    """Return the step at which a run stands.

    Raises
    ------
    Unknown
        If it is a draft, which has none.
    """
    step = desk.store.step(run.id, run.step) if run.step >= 0 else None
    if step is None:
        raise Unknown("step", "the run has no step yet; wanted one whose sites were invited")
    return step


def active(desk: Desk) -> Iterator[Step]:
    """Yield the steps of all runs that somebody is to look at."""
    cursor = ""
    while True:
        steps, cursor = desk.store.active(cursor, 100)
        yield from steps
        if not cursor:
            return


def event(desk: Desk, run: str, kind: str, who: str, step: int = -1, **detail: Any) -> Create:
    """Return a line of the audit trail, to be written with what it tells of."""
    assert kind in EVENTS, kind
    now = desk.clock()
    return Create(Event(run, identifier(now), now, kind, who, step, detail))


def again(change: Callable[[], T]) -> T:
    """Do what reads, decides and writes, until nobody else was faster.

    Raises
    ------
    TooMany
        If others always were.
    """
    for attempt in range(_TRIES):
        try:
            return change()
        except Contended:
            time.sleep(random.uniform(0, 0.001 * 2 ** min(attempt, 6)))
    raise TooMany("busy", "others change the same thing at the same moment; ask again in a second")


def content_key(run: str, sha256: str) -> str:
    """Return the key of a file of a result."""
    return f"runs/{run}/content/{sha256}"


def state_key(run: str) -> str:
    """Return what the keys of all that a run's centre remembers begin with."""
    return f"runs/{run}/state"


def update_key(run: str, step: int, site: str, name: str) -> str:
    """Return the key of a file of an update."""
    return f"{updates_key(run, step)}/{site}/{name}"


def updates_key(run: str, step: int) -> str:
    """Return what the keys of all files of a step's updates begin with; below 0, of all steps'."""
    return f"runs/{run}/steps" if step < 0 else f"runs/{run}/steps/{step:010d}"
