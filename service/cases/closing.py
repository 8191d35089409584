"""What a worker does: find steps that are ready or overdue, claim one, and publish what the centre answered.

Any number of workers may do so at once. A claim is a compare-and-set with a lease; whoever takes an abandoned one over
has the next attempt and the same frozen list, and the one before can publish nothing any more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from computation.errors import MeshNetError
from service.cases.desk import Desk, again, event, state_key, updates_key
from service.protocol import Conflict, File, Membership, Result, Run, Step, Update, digest_of
from service.protocol import transitions as to
from service.protocol.course import Course
from service.store.base import Change, Create, Replace

__all__ = ["MOST_ATTEMPTS", "Claim", "Made", "claim", "publish", "renew", "result", "stumble"]

#: The run, the step and everybody's part in it, as they were at one moment.
_Seen = tuple[Run, Step, tuple[Membership, ...]]

log = logging.getLogger(__name__)

#: Attempts at one step before its run fails, whatever they fail of; and of what fails the same way each time.
MOST_ATTEMPTS, _MOST_DEFINITE = 10, 2
#: Milliseconds that an attempt waits for what may pass, such as a full disk: doubled each time, up to the second.
_FIRST_WAIT, _MOST_WAIT = 1_000, 60_000


@dataclass(frozen=True)
class Claim:
    """A step that a worker holds.

    Attributes
    ----------
    run, step : Run and Step
        As they were claimed.
    updates : tuple of Update
        Those of the frozen list, by site.
    members : tuple of Membership
        Everybody in the run.
    """

    run: Run
    step: Step
    updates: tuple[Update, ...]
    members: tuple[Membership, ...]


@dataclass(frozen=True)
class Made:
    """What a centre made of a claim.

    Attributes
    ----------
    result : Result
        To be published.
    course : Course or None
        What comes next; None where the run has succeeded.
    payload : int
        Bytes of a payload, where this step says so; else 0.
    files : mapping of bytes
        Small files that the result speaks of, by their keys, to be kept with it; larger ones are kept already.
    done : sequence of str
        Keys of files that nobody needs once it is published.
    """

    result: Result
    course: Course | None
    payload: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)
    done: Sequence[str] = ()


def claim(desk: Desk, run: str, owner: str, lease: int) -> Claim | None:
    """Claim a run's newest step if it is ready or abandoned, and do what its deadline asks for.

    Parameters
    ----------
    desk : Desk
        The desk.
    run : str
        Which run; one that is not there, or stands still, is none.
    owner : str
        The worker, by a name that no other has.
    lease : int
        Milliseconds after which others may take the claim over.

    Returns
    -------
    Claim or None
        None where there is nothing to aggregate, or another worker has it.
    """
    try:
        return again(lambda: _claim(desk, run, owner, lease))
    except Conflict:
        return None


def _claim(desk: Desk, id: str, owner: str, lease: int) -> Claim | None:
    run, now = desk.store.run(id), desk.clock()
    step = desk.store.step(id, run.step) if run and run.step >= 0 else None
    if run is None or step is None or run.state not in ("running", "paused") or not step.active:
        return None
    if step.state == "aggregating" and step.attempt >= MOST_ATTEMPTS and not to.is_held(step, now):
        _fail(desk, run, step, "attempts", f"the centre failed {step.attempt} times at step {step.number}")
        return None
    members, found = desk.store.memberships(id), desk.store.updates(id, step.number)
    frozen = step.frozen
    if step.state == "open":
        counting, waited = _counting(step, members, found)
        if not _closes(desk, run, step, {one.site for one in counting}, waited, now):
            return None
        # Where everybody has committed nothing can be added; who leaves or comes back meanwhile changes the version.
        frozen = _listed(counting) if len(counting) == len(waited) else ()
    held = to.claimed(step, owner, now, lease, frozen)
    desk.store.write(Replace(held), *_retold(desk, held))
    return _claimed(run, held, found, members) if held.frozen else _frozen(desk, run, held)


def _retold(desk: Desk, step: Step) -> list[Change]:
    """Tell of every attempt but the first, which is nothing to tell of."""
    again = event(desk, step.run, "claimed", "service", step.number, attempt=step.attempt)
    return [again] if step.attempt > 1 else []


def _claimed(run: Run, step: Step, found: Iterable[Update], members: tuple[Membership, ...]) -> Claim:
    counted = dict(step.frozen)
    return Claim(run, step, tuple(one for one in found if one.site in counted), members)


def _frozen(desk: Desk, run: Run, step: Step) -> Claim | None:
    """Fix the list of what counts, now that nothing can be added: the step is not open any more."""
    members, found = desk.store.memberships(run.id), desk.store.updates(run.id, step.number)
    counting, _ = _counting(step, members, found)
    if not counting:
        _fail(desk, run, step, "quorum", f"all sites have left in step {step.number}")
        return None
    step = to.froze(step, _listed(counting))
    desk.store.write(Replace(step))
    return _claimed(run, step, found, members)


def _listed(updates: Iterable[Update]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((one.site, one.digest) for one in updates))


def _counting(
    step: Step, members: Iterable[Membership], found: Iterable[Update]
) -> tuple[tuple[Update, ...], set[str]]:
    """Return the updates of those who still take part, and who does."""
    sites = {one.site for one in members if one.state == "accepted"} & set(step.expected)
    return tuple(one for one in found if one.site in sites), sites


def _closes(desk: Desk, run: Run, step: Step, committed: set[str], waited: set[str], now: int) -> bool:
    """Tell whether an open step is to be closed; past its deadline, extend it or fail its run."""
    what = to.closing(run, step, committed, waited, now)
    if what == "wait" and run.state == "running" and to.is_overdrawn(step, run.wanted, now):
        desk.store.write(Replace(to.shortened(step, run.wanted, now)))
        desk.ring(run.id)
    if what == "extend":
        later = to.extended(step, run.wanted, now)
        desk.store.write(Replace(later), event(desk, run.id, "extended", "service", step.number, sites=len(committed)))
        desk.ring(run.id)
    if what == "fail":
        text = f"{len(committed)} sites had committed to step {step.number}; wanted the quorum of {run.wanted.quorum}"
        _fail(desk, run, step, "quorum", text)
    return what == "close"


def renew(desk: Desk, claim: Claim, lease: int) -> None:
    """Hold a claim for longer.

    Raises
    ------
    Conflict
        If it is not this worker's any more.
    """

    def once() -> None:
        _, step = _still(desk, claim)
        desk.store.write(Replace(to.lengthened(step, claim.step.owner, claim.step.attempt, desk.clock(), lease)))

    again(once)


def result(
    desk: Desk, message: str, files: tuple[File, ...], papers: tuple[File, ...], state: str, last: bool
) -> Result:
    """Return the result that a message and its files make up; equal ones have equal digests."""
    told = digest_of([message, [[file.name, file.size, file.sha256] for file in files], last])
    return Result(message, files, papers, state, told, last, desk.clock())


def publish(desk: Desk, claim: Claim, made: Made) -> Run:
    """Publish what the centre answered, open the next step or end the run, and forget what is in the result now.

    Parameters
    ----------
    desk, claim : Desk, Claim
        The desk, and what this worker claimed.
    made : Made
        The answer.

    Returns
    -------
    Run
        As it stands then. A publication that had happened already, by the same bytes, is as good.

    Raises
    ------
    Conflict
        If the claim is not this worker's any more.
    """
    seen: _Seen | None = (claim.run, claim.step, claim.members)

    def once() -> Run:
        nonlocal seen
        # What the claim saw mostly still holds: whatever changes it changes the version of the run or of the step.
        now, seen = seen or _seen(desk, claim), None
        with desk.together():
            for key, content in made.files.items():
                desk.blobs.write(key, content)
            after = _published(desk, claim, made, *now)
            _forget(desk, claim, made)
        desk.ring(after.id)
        return after

    return again(once)


def _seen(desk: Desk, claim: Claim) -> _Seen:
    return *_still(desk, claim), desk.store.memberships(claim.run.id)


def _published(desk: Desk, claim: Claim, made: Made, run: Run, step: Step, members: tuple[Membership, ...]) -> Run:
    """Write what a publication says, unless that has been done."""
    if step.state == "published":
        return _expect_same(run, step, made.result)
    closed = to.published(step, claim.step.owner, claim.step.attempt, made.result)
    sites = [one for one in members if one.role == "site"]
    judged = [to.answered(one, closed, run.wanted.inactive_after) for one in sites]
    missing = [new for new, old in zip(judged, sites, strict=True) if new is not old]
    after, following = _after(desk, run, closed, made, judged)
    desk.store.write(
        Replace(after),
        Replace(closed),
        *(Create(one) for one in following),
        *(Replace(one) for one in missing),
        *_told(desk, after, closed, missing),
    )
    return after


def _forget(desk: Desk, claim: Claim, made: Made) -> None:
    """Delete single updates, which are nobody's business once they are in a result, and states that are old."""
    run, number = claim.run.id, claim.step.number
    try:
        for key in made.done:
            desk.blobs.delete(key)
        for prefix in [updates_key(run, number)] if made.course else [updates_key(run, -1), state_key(run)]:
            desk.blobs.delete_under(prefix)
    except MeshNetError as error:
        log.warning("run %s step %d: what is not needed stays: %s", run, number, error.public)


def _still(desk: Desk, claim: Claim) -> tuple[Run, Step]:
    """Return run and step as they are now."""
    run, step = desk.store.run(claim.run.id), desk.store.step(claim.run.id, claim.step.number)
    if run is None or step is None:
        raise Conflict("fenced", "the run has been deleted; nothing of it is published any more")
    return run, step


def _expect_same(run: Run, step: Step, made: Result) -> Run:
    """Take a publication that happened, by this worker or another, for this one if it says the same."""
    if step.result is None or step.result.digest != made.digest:
        raise Conflict("fenced", "another attempt has published something else; what is published stays")
    return run


def _after(desk: Desk, run: Run, closed: Step, made: Made, members: list[Membership]) -> tuple[Run, list[Step]]:
    now, course = desk.clock(), made.course
    if course is None:
        return to.ended(run, "completed", now), []
    joined = set(dict(closed.frozen)) if closed.number == 0 else {one.site for one in members}
    expected = sorted(one.site for one in members if one.state == "accepted" and one.site in joined)
    assert closed.result is not None
    following = Step(
        run.id,
        closed.number + 1,
        course.phase,
        tuple(expected),
        now,
        round=course.round,
        model=course.model,
        base=closed.result.digest,
        deadline=now + 1000 * run.wanted.deadline,
    )
    planned = {
        "rounds": course.rounds or run.rounds,
        "manifest": course.manifest or run.manifest,
        "payload": made.payload or run.payload,
    }
    return to.moved(run, step=following.number, changed=now, **planned), [following]


def _told(desk: Desk, run: Run, closed: Step, judged: list[Membership]) -> list[Change]:
    counted = [site for site, _ in closed.frozen]
    assert closed.result is not None
    lines = [event(desk, run.id, "published", "service", closed.number, sites=counted, digest=closed.result.digest)]
    if away := [one.site for one in judged if one.state == "inactive"]:
        lines.append(event(desk, run.id, "inactive", "service", closed.number, sites=away))
    if run.state == "completed":
        lines.append(event(desk, run.id, "completed", "service", closed.number))
    return [*lines]


def stumble(desk: Desk, claim: Claim, text: str, passing: bool = False) -> None:
    """Give a claim back after a failure, so that another attempt can be made; the last one fails the run.

    Parameters
    ----------
    desk, claim : Desk, Claim
        The desk, and what this worker claimed.
    text : str
        What every site may read of the failure.
    passing : bool
        Whether it may pass, such as a disk that is full: then the attempts are more, and wait longer each time.
    """

    def once() -> None:
        run, step = _still(desk, claim)
        if (step.state, step.owner, step.attempt) != ("aggregating", claim.step.owner, claim.step.attempt):
            return
        if step.attempt >= (MOST_ATTEMPTS if passing else _MOST_DEFINITE):
            _fail(desk, run, step, "centre", text)
            return
        wait = min(_FIRST_WAIT << step.attempt, _MOST_WAIT) if passing else 0
        freed = to.moved(step, lease=desk.clock() + wait)
        desk.store.write(Replace(freed), event(desk, run.id, "attempt failed", "service", step.number, why=text[:300]))
        desk.ring(run.id)

    again(once)


def _fail(desk: Desk, run: Run, step: Step, reason: str, text: str) -> None:
    desk.store.write(
        Replace(to.ended(run, "failed", desk.clock(), reason, text[:600])),
        Replace(to.cancelled(step)),
        event(desk, run.id, "failed", "service", step.number, reason=reason, why=text[:600]),
    )
    desk.ring(run.id)
