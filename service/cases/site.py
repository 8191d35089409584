"""What else a site does in a run: say no, tell that it is alive, leave, and come back."""

from __future__ import annotations

from collections.abc import Sequence

from computation.checks import is_text
from service.cases.desk import Desk, again, event, newest, seat
from service.identity.principal import Principal
from service.protocol import PRESENCES, Conflict, Malformed, Membership, Presence
from service.protocol import transitions as to
from service.store.base import Change, Hold, Put, Replace

__all__ = ["decline", "heartbeat", "leave", "rejoin"]


def decline(desk: Desk, who: Principal, run: str) -> Membership:
    """Say no to an invitation, for good."""
    return _go(desk, who, run, "declined", ("invited",), "")


def leave(desk: Desk, who: Principal, run: str, why: str = "") -> Membership:
    """Take consent back, or give up because the site can never contribute again; for good."""
    if not is_text(why, 300):
        raise Malformed("reason", "the reason is no text; wanted at most 300 printable characters")
    return _go(desk, who, run, "left", ("accepted", "inactive"), why)


def _go(desk: Desk, who: Principal, run: str, state: str, before: Sequence[str], why: str) -> Membership:
    def once() -> Membership:
        at = seat(desk, who, run)
        site, member = at.site, at.member
        assert member is not None
        if member.state == state:
            return member
        to.refuse_if_ended(at.run)
        if member.state not in before:
            raise Conflict("membership", f"this site is {member.state}; wanted {' or '.join(before)}")
        gone, step = to.moved(member, state=state), newest(desk, at.run)
        # The step's version tells whoever is about to claim it that it may have to wait for one less.
        touched: list[Change] = [Replace(to.touched(step))] if step.active else []
        desk.store.write(Replace(gone), *touched, event(desk, run, state, site, step.number, why=why))
        desk.ring(run)
        return gone

    return again(once)


def rejoin(desk: Desk, who: Principal, run: str) -> Membership:
    """Come back after missing so many steps that nobody waits any more, into the open step or else the next one.

    The site must have taken over every published result first: its next commit answers the last of them.
    """

    def once() -> Membership:
        at = seat(desk, who, run)
        site, member = at.site, at.member
        assert member is not None
        to.refuse_if_ended(at.run)
        if member.state == "accepted":
            return member
        if member.state != "inactive":
            raise Conflict("membership", f"this site is {member.state}; wanted one that was away")
        back, step = to.moved(member, state="accepted", missed=0), newest(desk, at.run)
        # Whoever publishes must see, before the next step is opened, that there is somebody more to be waited for.
        told = to.joined(step, site) if step.state == "open" else to.touched(step)
        desk.store.write(Hold(at.run), Replace(back), Replace(told), event(desk, run, "rejoined", site, step.number))
        desk.ring(run)
        return back

    return again(once)


def heartbeat(desk: Desk, who: Principal, run: str, status: str) -> Presence:
    """Tell that a site is alive, and what it is doing: a word of `PRESENCES`."""
    at = seat(desk, who, run)
    if at.site and status not in PRESENCES:
        raise Malformed("status", f"the status is none; wanted {', '.join(PRESENCES)}")
    presence = Presence(run, who.sub, desk.clock(), status)
    desk.store.write(Put(presence))
    return presence
