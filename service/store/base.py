"""What a store can do: find records by their keys, and change several of them at once or not at all.

All decisions are made above: a store knows keys and versions, and nothing of states. There is one verb that changes,
`write`; everything else reads what was committed before it was called. Two kinds of condition make it safe:

- a record with a `version` (`Run`, `Membership`, `Step`, `Session`) is replaced only if the stored one has exactly the
  version before, so whoever read something older has to look again;
- any record is created only if there is none under its key, so nobody does a thing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from computation.errors import ServiceError
from service.protocol.records import Answer, Event, Membership, Presence, Record, Run, Session, Step, Update, Upload

__all__ = ["Change", "Contended", "Create", "Drop", "Hold", "Page", "Put", "Replace", "Store", "StoreBroken", "cut"]

R = TypeVar("R", bound=Record)

#: Records and the cursor of those after them; the cursor is empty where there are no more.
Page = tuple[tuple[R, ...], str]


def cut(found: Sequence[R], limit: int, cursor: Callable[[R], str]) -> Page[R]:
    """Return a page of the records that were found; that there are more than the limit tells that others follow."""
    page = tuple(found[:limit])
    return page, cursor(page[-1]) if len(found) > limit else ""


class Contended(ServiceError):
    """A condition of a `write` did not hold, so nothing of it was written; read again and decide anew."""


class StoreBroken(ServiceError):
    """The store cannot be read or written, such as on a full disk or one that takes no writing."""


@dataclass(frozen=True)
class Create:
    """Keep a record, if there is none under its key yet."""

    record: Record


@dataclass(frozen=True)
class Replace:
    """Keep a record in the place of the one whose version is one less."""

    record: Run | Membership | Step | Session


@dataclass(frozen=True)
class Hold:
    """Change nothing, but only go on if the stored record still has this version."""

    record: Run | Membership | Step | Session


@dataclass(frozen=True)
class Put:
    """Keep a record whatever was there."""

    record: Presence


@dataclass(frozen=True)
class Drop:
    """Forget a record, if it is there."""

    record: Upload | Answer | Session


Change = Create | Replace | Hold | Put | Drop


class Store(Protocol):
    """One place where records are kept.

    Any number of threads and processes may use one place at once. Reads are consistent: they see every `write` that
    returned before they began. A list is in the order of its keys; lists with a cursor return at most `limit` records
    after the cursor `after` ('' is the beginning), and the cursor to go on with.

    Raises
    ------
    StoreBroken
        From every method, if the place fails; whether a `write` then happened is not known, and reading tells.
    """

    def write(self, *changes: Change) -> None:
        """Make all changes at once, or none; at most 100, no two of one record.

        Nobody sees some of the changes without the others. When it returns, they have outlived this process.

        Raises
        ------
        Contended
            If one condition did not hold; then nothing was changed. Also if that could not be found out because others
            wrote the same records at the same moment.
        """
        ...

    def run(self, id: str) -> Run | None:
        """Return a run."""
        ...

    def runs(self, after: str, limit: int) -> Page[Run]:
        """Return all runs, newest first."""
        ...

    def membership(self, run: str, subject: str) -> Membership | None:
        """Return what somebody is in a run."""
        ...

    def memberships(self, run: str) -> tuple[Membership, ...]:
        """Return everybody in a run, by subject."""
        ...

    def memberships_of(self, subject: str, after: str, limit: int) -> Page[Membership]:
        """Return what somebody is in every run, newest run first."""
        ...

    def presences(self, run: str) -> tuple[Presence, ...]:
        """Return what was last heard of each member, by subject."""
        ...

    def step(self, run: str, number: int) -> Step | None:
        """Return a step."""
        ...

    def steps(self, run: str, after: str, limit: int) -> Page[Step]:
        """Return a run's steps, oldest first."""
        ...

    def active(self, after: str, limit: int) -> Page[Step]:
        """Return the steps of all runs that are open or aggregating, in any order that the cursor can follow.

        This may be read with a delay: whoever acts upon a step reads it again.
        """
        ...

    def update(self, run: str, step: int, site: str) -> Update | None:
        """Return what a site committed to a step."""
        ...

    def updates(self, run: str, step: int) -> tuple[Update, ...]:
        """Return what was committed to a step, by site."""
        ...

    def upload(self, run: str, step: int, site: str, id: str) -> Upload | None:
        """Return a reservation."""
        ...

    def uploads(self, run: str, step: int) -> tuple[Upload, ...]:
        """Return all reservations of a step, by site and id."""
        ...

    def events(self, run: str, after: str, limit: int) -> Page[Event]:
        """Return a run's events, oldest first; the cursor is the last one's id, also where there are no more.

        Two processes' events of one millisecond may come in either order, so one may appear before a cursor that
        another reader has already passed.
        """
        ...

    def answer(self, subject: str, route: str, name: str) -> Answer | None:
        """Return what was done for an idempotency key."""
        ...

    def session(self, id: str) -> Session | None:
        """Return a browser's session."""
        ...

    def forget(self, run: str) -> None:
        """Delete everything of a run; not at once, and safe to repeat until it returns."""
        ...

    def sweep(self, now: int) -> None:
        """Delete answers, reservations and sessions that have expired; stores that do it themselves may do nothing."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
