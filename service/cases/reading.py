"""What anybody in a run may see of it; an administrator sees every run."""

from __future__ import annotations

from dataclasses import dataclass

from service.blobs.base import Signed
from service.cases.desk import Desk, Seat, content_key, newest, seat
from service.identity.principal import Principal
from service.protocol import Event, File, Forbidden, Membership, Presence, Result, Run, Step, Unknown
from service.store.base import Page

__all__ = [
    "Fetched",
    "Member",
    "answered",
    "content",
    "ending",
    "events",
    "files",
    "link",
    "members",
    "own",
    "run",
    "runs",
    "standing",
    "step",
    "steps",
]

#: Most records of one page.
_MOST = 200
#: Seconds for which a file may be fetched.
_FETCHED = 900


@dataclass(frozen=True)
class Member:
    """Somebody in a run, as the others may see it.

    Attributes
    ----------
    membership : Membership
        Who.
    presence : Presence or None
        When it was last heard of; None if never.
    committed : int
        When its update to the newest step came; 0 if it has not.
    """

    membership: Membership
    presence: Presence | None
    committed: int


@dataclass(frozen=True)
class Standing:
    """Where a run stands, for somebody in it.

    Attributes
    ----------
    run, member, step : Run, Membership or None, Step
        The run, what the caller is in it, and its newest step.
    committed : str
        Digest of the caller's update to that step; empty where there is none.
    """

    run: Run
    member: Membership | None
    step: Step
    committed: str


def standing(desk: Desk, who: Principal, id: str) -> Standing:
    """Return where a run stands; raises `Unknown` for a draft, which stands nowhere."""
    at = seat(desk, who, id)
    step = newest(desk, at.run)
    site = at.member.site if at.member else ""
    update = desk.store.update(id, step.number, site) if site else None
    return Standing(at.run, at.member, step, update.digest if update else "")


def run(desk: Desk, who: Principal, id: str) -> Run:
    """Return a run."""
    return seat(desk, who, id).run


def own(desk: Desk, who: Principal, id: str) -> Membership | None:
    """Return what the caller is in a run; None for an administrator that is nothing in it."""
    return seat(desk, who, id).member


def runs(desk: Desk, who: Principal, after: str = "", limit: int = 50) -> Page[Run]:
    """Return the caller's runs, newest first; an administrator's are all."""
    limit = max(1, min(limit, _MOST))
    if who.has("administrator"):
        return desk.store.runs(after, limit)
    members, cursor = desk.store.memberships_of(who.sub, after, limit)
    found = [desk.store.run(one.run) for one in members if one.state != "removed"]
    return tuple(one for one in found if one is not None), cursor


def members(desk: Desk, who: Principal, id: str) -> tuple[Member, ...]:
    """Return who is in a run and what each is doing, the sites by name, then the others."""
    at = seat(desk, who, id)
    presences = {one.subject: one for one in desk.store.presences(id)}
    committed = {one.site: one.committed for one in desk.store.updates(id, at.run.step)} if at.run.step >= 0 else {}
    found = [Member(one, presences.get(one.subject), committed.get(one.site, 0)) for one in desk.store.memberships(id)]
    return tuple(sorted(found, key=lambda one: (one.membership.site == "", one.membership.site, one.membership.role)))


def step(desk: Desk, who: Principal, id: str, number: int = -1) -> Step:
    """Return a step, by default the newest.

    Raises
    ------
    Unknown
        If there is none of that number.
    """
    return _step(desk, seat(desk, who, id), number)


def _step(desk: Desk, at: Seat, number: int) -> Step:
    if number == -1:
        return newest(desk, at.run)
    found = desk.store.step(at.run.id, number) if 0 <= number <= at.run.step else None
    if found is None:
        raise Unknown("step", f"the run has no step {str(number)[:20]}; it stands at {at.run.step}")
    return found


def steps(desk: Desk, who: Principal, id: str, after: str = "", limit: int = 50) -> Page[Step]:
    """Return a run's steps, oldest first."""
    seat(desk, who, id)
    return desk.store.steps(id, after, max(1, min(limit, _MOST)))


def ending(desk: Desk, who: Principal, id: str) -> Step | None:
    """Return the step with which a run published its final and best model, if it has come so far."""
    last = seat(desk, who, id).run.step
    found = (desk.store.step(id, number) for number in range(max(0, last - 1), last + 1))
    return next((one for one in found if one and one.phase == "finish" and one.result), None)


def events(desk: Desk, who: Principal, id: str, after: str = "", limit: int = 50) -> Page[Event]:
    """Return a run's audit trail, oldest first."""
    seat(desk, who, id)
    return desk.store.events(id, after, max(1, min(limit, _MOST)))


@dataclass(frozen=True)
class Fetched:
    """A file of a result, and how to have it.

    Attributes
    ----------
    file : File
        Its name, size and SHA-256.
    where : Signed
        Where to fetch it.
    content : bytes or None
        Its bytes, if it is so small that it comes at once.
    """

    file: File
    where: Signed
    content: bytes | None


def answered(desk: Desk, who: Principal, id: str, number: int) -> tuple[Run, Step]:
    """Return a run and a step, whose result the caller may have where it is published.

    Raises
    ------
    Unknown
        If there is no such step.
    Forbidden
        If it has a result, and the caller has not accepted the run.
    """
    at = seat(desk, who, id)
    found = _step(desk, at, number)
    if found.result is not None:
        _expect_accepted(at)
    return at.run, found


def files(desk: Desk, id: str, result: Result, inline: int = 0, together: int = 0) -> tuple[Fetched, ...]:
    """Return the files of a result that `answered` returned.

    Those of at most `inline` bytes come with their content, as many as have at most `together` bytes.
    """
    found, left = [], together
    for file in result.files:
        found.append(_fetched(desk, id, file, file.size <= min(inline, left)))
        left -= file.size if found[-1].content is not None else 0
    return tuple(found)


def _fetched(desk: Desk, id: str, file: File, whole: bool) -> Fetched:
    key = content_key(id, file.sha256)
    where = desk.blobs.sign_get(key, desk.clock(), _FETCHED, file.name)
    return Fetched(file, where, desk.blobs.read(key, file.size) if whole else None)


def link(desk: Desk, who: Principal, id: str, number: int, name: str) -> tuple[File, Signed]:
    """Return a file or paper of a published result, and where to fetch it.

    Raises
    ------
    Unknown
        If there is no such result or file.
    """
    file = _file(desk, who, id, number, name)
    return file, desk.blobs.sign_get(content_key(id, file.sha256), desk.clock(), _FETCHED, name)


def content(desk: Desk, who: Principal, id: str, number: int, name: str) -> bytes:
    """Return the bytes of such a file; errors as for `link`."""
    file = _file(desk, who, id, number, name)
    return desk.blobs.read(content_key(id, file.sha256), file.size)


def _file(desk: Desk, who: Principal, id: str, number: int, name: str) -> File:
    at = seat(desk, who, id)
    _expect_accepted(at)
    result = _step(desk, at, number).result
    found = next((file for file in (*result.files, *result.papers) if file.name == name), None) if result else None
    if found is None:
        raise Unknown("file", "there is no such file in a published result of this run")
    return found


def _expect_accepted(at: Seat) -> None:
    if at.undecided:
        raise Forbidden("not_accepted", "only sites that have accepted the run may have its models")
