"""The state machine of a run and its steps: from one record to the next, or a refusal; pure.

``draft -> inviting -> running {open -> aggregating -> published -> next open} -> completed | failed | aborted``, and
from running to paused and back. Each function returns the record with its version raised by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

from service.protocol.records import ENDED, Membership, Result, Run, RunState, Session, Step
from service.protocol.refusals import Conflict, Gone
from service.protocol.spec import Spec

__all__ = [
    "abort",
    "answered",
    "cancelled",
    "claimed",
    "closing",
    "ended",
    "extended",
    "first",
    "froze",
    "invite",
    "is_held",
    "is_overdrawn",
    "joined",
    "lengthened",
    "moved",
    "pause",
    "published",
    "refuse_if_ended",
    "resume",
    "resumed",
    "shortened",
    "start",
    "touched",
]

#: Milliseconds that no lease lasts longer than, whoever gives it.
_LONGEST_LEASE = 120_000

#: From which states a run may come to each.
_FROM: Mapping[RunState, tuple[RunState, ...]] = {
    "draft": (),
    "inviting": ("draft",),
    "running": ("inviting", "paused"),
    "paused": ("running",),
    "completed": ("running", "paused"),
    "failed": ("running", "paused"),
    "aborted": ("draft", "inviting", "running", "paused"),
}

V = TypeVar("V", Run, Step, Membership, Session)


def moved(record: V, **changes: Any) -> V:
    """Return a record with changes, and the next version."""
    return replace(record, **changes, version=record.version + 1)


def refuse_if_ended(run: Run) -> None:
    """Refuse whatever is asked of a run that has ended.

    Raises
    ------
    Gone
        With the state.
    """
    if run.state in ENDED:
        raise Gone("run_ended", f"the run is {run.state}; nothing changes it any more", state=run.state)


def _expect(run: Run, *states: RunState) -> None:
    refuse_if_ended(run)
    if run.state not in states:
        wanted = " or ".join(states)
        raise Conflict("run_state", f"the run is {run.state}; wanted one that is {wanted}", state=run.state)


def _to(run: Run, state: RunState, now: int, **changes: Any) -> Run:
    _expect(run, *_FROM[state])
    return moved(run, state=state, changed=now, **changes)


def invite(run: Run, now: int) -> Run:
    """Ask the participants; their joins are collected in step 0."""
    return _to(run, "inviting", now, step=0)


def start(run: Run, accepted: int, now: int) -> Run:
    """Begin with those who have accepted; the join is closed.

    Raises
    ------
    Conflict
        If the run is not inviting, or fewer have accepted than the spec asks for.
    """
    _expect(run, "inviting")
    if accepted < run.wanted.starts:
        text = f"{accepted} sites have accepted; wanted the quorum of {run.wanted.starts}"
        raise Conflict("quorum", text, accepted=accepted, quorum=run.wanted.starts)
    return _to(run, "running", now)


def pause(run: Run, now: int) -> Run:
    """Take no more commits until `resume`; what is being aggregated is still published."""
    return _to(run, "paused", now, paused=now, reason="paused")


def resume(run: Run, now: int) -> Run:
    """Go on."""
    _expect(run, "paused")
    return _to(run, "running", now, paused=0, reason="")


def abort(run: Run, now: int) -> Run:
    """End the run without a result."""
    return _to(run, "aborted", now, reason="aborted", paused=0)


def ended(run: Run, state: Literal["completed", "failed"], now: int, reason: str = "", detail: str = "") -> Run:
    """End the run with a result, or because it cannot go on."""
    return _to(run, state, now, reason=reason, detail=detail, paused=0)


def first(run: Run, now: int) -> Step:
    """Return the join, which waits until its coordinator starts the run."""
    return Step(run.id, 0, "join", tuple(sorted(one.site for one in run.wanted.participants)), now)


def touched(step: Step) -> Step:
    """Return a step with nothing but its version changed: who began to commit before must look again."""
    return moved(step)


def resumed(step: Step, run: Run, now: int) -> Step:
    """Give an open step the time back that a pause took."""
    later = now - max(run.paused, step.opened) if step.state == "open" and step.deadline else 0
    return moved(step, deadline=step.deadline + later)


def cancelled(step: Step) -> Step:
    """Return a step that its run will not come back to; one that is published stays."""
    return moved(step, state="cancelled") if step.active else step


def closing(run: Run, step: Step, committed: Collection[str], waited: Collection[str], now: int) -> str:
    """Say what is to be done with an open step.

    Parameters
    ----------
    run : Run
        Whose it is.
    step : Step
        The step.
    committed : collection of str
        Sites whose updates count.
    waited : collection of str
        Expected sites that may still come.
    now : int
        The server's time.

    Returns
    -------
    str
        `wait`; `close`; `extend`, since the deadline passed below the quorum; or `fail`, since that happened too often.
    """
    if step.state != "open" or run.state != "running":
        return "wait"
    enough = len(committed) >= run.wanted.quorum
    if step.number == 0:
        # `start` has seen to the quorum; one that left since may have gone below it.
        return "close" if enough else "fail"
    if enough and not set(waited) - set(committed):
        return "close"
    if now < step.deadline:
        return "wait"
    if enough:
        return "close"
    return "extend" if step.extended < run.wanted.extensions else "fail"


def extended(step: Step, wanted: Spec, now: int) -> Step:
    """Let a step wait for as long again."""
    return moved(step, deadline=now + 1000 * wanted.deadline, extended=step.extended + 1)


def shortened(step: Step, wanted: Spec, now: int) -> Step:
    """Let a step that is overdrawn wait for as long as steps do, from now on."""
    return moved(step, deadline=now + 1000 * wanted.deadline)


def is_held(step: Step, now: int) -> bool:
    """Tell whether a step is being aggregated, or waits for its next attempt; one of before the clock was set back is
    not: whoever holds it still is fenced by its attempt."""
    return step.state == "aggregating" and 0 < step.lease - now <= _LONGEST_LEASE


def is_overdrawn(step: Step, wanted: Spec, now: int) -> bool:
    """Tell whether an open step would wait for longer than steps do, since the clock was set back."""
    return step.state == "open" and step.deadline > now + 1000 * wanted.deadline


def claimed(step: Step, owner: str, now: int, lease: int, frozen: tuple[tuple[str, str], ...] = ()) -> Step:
    """Give a worker a step that is to be closed, or that another has abandoned: no more commits come into it.

    The list of what counts is given where it is known, and else left to `froze`.

    Raises
    ------
    Conflict
        If another worker holds it, or nothing is left to do.
    """
    if step.state != "open" and (step.state != "aggregating" or is_held(step, now)):
        raise Conflict("claimed", f"the step is {step.state}, attempt {step.attempt}; wanted one that nobody holds")
    mine = {"owner": owner, "attempt": step.attempt + 1, "lease": now + lease}
    return moved(step, state="aggregating", frozen=step.frozen or frozen, **mine)


def froze(step: Step, counted: tuple[tuple[str, str], ...]) -> Step:
    """Fix the sites and updates that count, once, after the last one can have come."""
    assert step.state == "aggregating" and not step.frozen, step.state
    return moved(step, frozen=counted)


def lengthened(step: Step, owner: str, attempt: int, now: int, lease: int) -> Step:
    """Hold a claim for longer.

    Raises
    ------
    Conflict
        If it is no longer this worker's.
    """
    _expect_owner(step, owner, attempt)
    return moved(step, lease=now + lease)


def published(step: Step, owner: str, attempt: int, result: Result) -> Step:
    """Close a step with its result.

    Raises
    ------
    Conflict
        If the claim is no longer this worker's: another attempt has been made, or the run has ended.
    """
    _expect_owner(step, owner, attempt)
    return moved(step, state="published", result=result)


def _expect_owner(step: Step, owner: str, attempt: int) -> None:
    if (step.state, step.owner, step.attempt) != ("aggregating", owner, attempt):
        seen = f"{step.state}, attempt {step.attempt}"
        raise Conflict("fenced", f"the step is {seen}; wanted attempt {attempt}, which has been given up", step=seen)


def answered(member: Membership, step: Step, inactive_after: int) -> Membership:
    """Count whether an expected site's update was in a step; the same record where nothing changes."""
    if member.site not in step.expected or member.state != "accepted":
        return member
    if member.site in dict(step.frozen):
        return moved(member, missed=0) if member.missed else member
    missed = member.missed + 1
    return moved(member, missed=missed, state="inactive" if missed >= inactive_after else "accepted")


def joined(step: Step, site: str) -> Step:
    """Wait in an open step for one site more."""
    return moved(step, expected=tuple(sorted({*step.expected, site})))
