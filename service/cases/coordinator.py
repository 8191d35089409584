"""What a run's coordinator does, and an administrator may do in its place. All verbs can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.cases import starting
from service.cases.desk import Desk, Seat, again, event, newest, seat
from service.identity.principal import Principal
from service.protocol import Answer, Conflict, Forbidden, Malformed, Membership, Run, Spec, Unknown, identifier
from service.protocol import transitions as to
from service.protocol.records import ENDED
from service.store.base import Change, Create, Replace

__all__ = ["abort", "create", "forget", "invite", "pause", "remove", "resume", "revise", "start", "start_from"]

_DAY = 86_400_000


def create(desk: Desk, who: Principal, raw: Any, key: str = "") -> Run:
    """Make a draft.

    Parameters
    ----------
    desk : Desk
        The desk.
    who : Principal
        Its coordinator to be.
    raw : object
        The spec, as JSON.
    key : str
        Idempotency key: the same caller, key and spec make one run, however often they come within a day.

    Raises
    ------
    Forbidden
        If the caller makes no runs.
    Malformed
        If the spec cannot be.
    Conflict
        If the key came with another spec.
    """
    if not who.has("coordinator", "administrator"):
        raise Forbidden("not_coordinator", "only a coordinator makes runs; ask an administrator for that role")
    spec = _spec(raw, who.sub)
    return again(lambda: _create(desk, who, spec, key))


def _spec(raw: Any, owner: str) -> Spec:
    """Read a spec; somebody is one thing in a run."""
    spec = Spec.parse(raw)
    if owner in spec.viewers or spec.site_of(owner):
        raise Malformed(
            "spec", "the coordinator is a participant too; wanted a site's own account", field="participants"
        )
    return spec


def _create(desk: Desk, who: Principal, spec: Spec, key: str) -> Run:
    if key and (done := desk.store.answer(who.sub, "runs", key)):
        return _done(desk, done, spec)
    now = desk.clock()
    run = Run(identifier(now), who.sub, "draft", spec.text, spec.digest, now, now)
    kept = Answer(who.sub, "runs", key, spec.digest, run.id, now + _DAY)
    desk.store.write(
        Create(run),
        Create(Membership(run.id, who.sub, "coordinator", "accepted", answered=now)),
        event(desk, run.id, "created", "coordinator", spec=spec.digest),
        *([Create(kept)] if key else []),
    )
    return run


def _done(desk: Desk, done: Answer, spec: Spec) -> Run:
    if done.body != spec.digest:
        raise Conflict("idempotency_key", "that idempotency key came with another spec; take a new one")
    run = desk.store.run(done.outcome)
    if run is None:
        raise Unknown("run", "the run that was made for that idempotency key has been deleted")
    return run


def revise(desk: Desk, who: Principal, run: str, raw: Any, seen: str = "") -> Run:
    """Give a draft another spec, if it still has the digest that was seen, where one is given."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        spec = _spec(raw, at.run.owner)
        _expect_draft(at.run)
        _expect_seen(at.run, seen, spec.digest)
        return _revised(desk, at, spec)

    return _change(desk, who, run, change)


def start_from(desk: Desk, who: Principal, run: str, card: bytes, tensors: bytes) -> Run:
    """Let a draft start from a trained model, which the service then has for the centre.

    Parameters
    ----------
    desk, who, run
        The desk, the caller, the draft's id.
    card, tensors : bytes
        The model's JSON and its safetensors, as they were exported.

    Raises
    ------
    Malformed
        If they are no such model, or not one of this run.
    Conflict
        If the run is no draft any more.
    """
    at = seat(desk, who, run)
    at.expect_coordinator()
    _expect_draft(at.run)
    model = starting.read(card, tensors)

    def change(at: Seat) -> tuple[Run, list[Change]]:
        _expect_draft(at.run)
        return _revised(desk, at, starting.keep(desk, run, at.run.wanted, model))

    return _change(desk, who, run, change)


def _expect_draft(run: Run) -> None:
    if run.state != "draft":
        raise Conflict("run_state", f"the run is {run.state}; what sites were asked for does not change any more")


def _expect_seen(run: Run, seen: str, sent: str = "") -> None:
    """Refuse to go on from what somebody else has changed meanwhile; what was sent twice is no such change."""
    if seen and run.digest not in (seen, sent):
        raise Conflict("changed", "the draft was changed since that page was opened; look at it again, then go on")


def _revised(desk: Desk, at: Seat, spec: Spec) -> tuple[Run, list[Change]]:
    revised = to.moved(at.run, spec=spec.text, digest=spec.digest, changed=desk.clock())
    return revised, [event(desk, at.run.id, "revised", at.name, spec=spec.digest)]


def invite(desk: Desk, who: Principal, run: str, seen: str = "") -> Run:
    """Ask all participants, and let viewers look on, if the spec still is what was seen, where its digest is given."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        if at.run.state == "inviting":
            return at.run, []
        _expect_seen(at.run, seen)
        now = desk.clock()
        return to.invite(at.run, now), [
            Create(to.first(at.run, now)),
            *(Create(member) for member in _members(at.run, now)),
            event(desk, run, "invited", at.name, 0, sites=len(at.run.wanted.participants)),
        ]

    return _change(desk, who, run, change)


def _members(run: Run, now: int) -> list[Membership]:
    spec = run.wanted
    sites = [
        Membership(run.id, one.subject, "site", "invited", site=one.site, invited=now) for one in spec.participants
    ]
    return [*sites, *(Membership(run.id, one, "viewer", "accepted", invited=now) for one in spec.viewers)]


def start(desk: Desk, who: Principal, run: str) -> Run:
    """Begin with those who have accepted."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        if at.run.state == "running":
            return at.run, []
        members = desk.store.memberships(run)
        accepted = sorted(one.site for one in members if one.role == "site" and one.state == "accepted")
        started = to.start(at.run, len(accepted), desk.clock())
        return started, [
            Replace(to.touched(newest(desk, at.run))),
            event(desk, run, "started", at.name, 0, sites=accepted),
        ]

    return _change(desk, who, run, change)


def pause(desk: Desk, who: Principal, run: str) -> Run:
    """Take no commits until `resume`."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        if at.run.state == "paused":
            return at.run, []
        paused, step = to.pause(at.run, desk.clock()), newest(desk, at.run)
        return paused, [Replace(to.touched(step)), event(desk, run, "paused", at.name, step.number)]

    return _change(desk, who, run, change)


def resume(desk: Desk, who: Principal, run: str) -> Run:
    """Go on; the open step has as much time left as it had."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        if at.run.state == "running":
            return at.run, []
        now = desk.clock()
        resumed = to.resume(at.run, now)
        step = newest(desk, at.run)
        return resumed, [Replace(to.resumed(step, at.run, now)), event(desk, run, "resumed", at.name, step.number)]

    return _change(desk, who, run, change)


def abort(desk: Desk, who: Principal, run: str) -> Run:
    """End a run without a result."""

    def change(at: Seat) -> tuple[Run, list[Change]]:
        if at.run.state == "aborted":
            return at.run, []
        aborted = to.abort(at.run, desk.clock())
        step = newest(desk, at.run) if at.run.step >= 0 else None
        closed: list[Change] = [Replace(to.cancelled(step))] if step and step.active else []
        return aborted, [*closed, event(desk, run, "aborted", at.name, at.run.step)]

    return _change(desk, who, run, change)


def remove(desk: Desk, who: Principal, run: str, site: str) -> Membership:
    """Take a site out of a run for good; it sees nothing of it any more."""

    def change() -> Membership:
        at = seat(desk, who, run)
        at.expect_coordinator()
        to.refuse_if_ended(at.run)
        member = next((one for one in desk.store.memberships(run) if one.site == site != ""), None)
        if member is None:
            raise Unknown("site", "there is no such site in the run")
        if member.state == "removed":
            return member
        removed = to.moved(member, state="removed")
        step = newest(desk, at.run)
        touched: list[Change] = [Replace(to.touched(step))] if step.active else []
        desk.store.write(Replace(removed), *touched, event(desk, run, "removed", at.name, step.number, site=site))
        desk.ring(run)
        return removed

    return again(change)


def forget(desk: Desk, who: Principal, run: str, digest: str) -> None:
    """Delete a run that has ended, or never began, and all its files.

    Raises
    ------
    Conflict
        If it is under way.
    Malformed
        If the caller does not name the digest of its spec, which shows that it means this one.
    """
    at = seat(desk, who, run)
    at.expect_coordinator()
    if at.run.state not in (*ENDED, "draft"):
        raise Conflict("run_state", f"the run is {at.run.state}; abort it first", state=at.run.state)
    if digest != at.run.digest:
        raise Malformed("digest", "the digest is not that of the run's spec; wanted it, to be sure which run is meant")
    desk.blobs.delete_under(f"runs/{run}")
    desk.store.forget(run)


def _change(desk: Desk, who: Principal, run: str, change: Callable[[Seat], tuple[Run, list[Change]]]) -> Run:
    """Read, decide and write until nobody else was faster; a change without records was made before."""

    def once() -> Run:
        at = seat(desk, who, run)
        at.expect_coordinator()
        changed, others = change(at)
        if others:
            desk.store.write(Replace(changed), *others)
            desk.ring(run)
        return changed

    return again(once)
