"""Runs and who is in them."""

from __future__ import annotations

import base64
from collections.abc import Callable

from service.cases import coordinator, reading, site
from service.cases.desk import Desk
from service.identity.principal import Principal
from service.protocol import Malformed, Membership, Run
from service.web import views
from service.web.operations import Call, Operation, Reply, page_query, ref

__all__ = ["OPERATIONS"]


def create(call: Call) -> Reply:
    """Make a draft."""
    made = coordinator.create(call.served.desk, call.who, call.body, call.headers.get("idempotency-key", ""))
    return Reply(_shown(call, made), 201, {"Location": f"/v1/runs/{made.id}"})


def listed(call: Call) -> Reply:
    """List the caller's runs."""
    found, cursor = reading.runs(call.served.desk, call.who, call.query["after"], call.query["limit"])
    return Reply({"items": [views.line(one) for one in found], "cursor": cursor})


def show(call: Call) -> Reply:
    """Show a run."""
    return Reply(_shown(call, reading.run(call.served.desk, call.who, call.run)))


def revise(call: Call) -> Reply:
    """Give a draft another spec."""
    return Reply(_shown(call, coordinator.revise(call.served.desk, call.who, call.run, call.body)))


def start_from(call: Call) -> Reply:
    """Let a draft start from a trained model."""
    try:
        tensors = base64.b64decode(call.body["tensors"].encode("ascii"), validate=True)
    except ValueError:
        raise Malformed("tensors", "the tensors are no base64; wanted RFC 4648's, padded", field="tensors") from None
    card = call.body["card"].encode()
    return Reply(_shown(call, coordinator.start_from(call.served.desk, call.who, call.run, card, tensors)))


def forget(call: Call) -> Reply:
    """Delete a run."""
    coordinator.forget(call.served.desk, call.who, call.run, call.query["digest"])
    return Reply(status=204)


def members(call: Call) -> Reply:
    """List who is in a run."""
    return Reply({"items": [views.member(one) for one in reading.members(call.served.desk, call.who, call.run)]})


def remove(call: Call) -> Reply:
    """Take a site out."""
    return Reply(views.membership(coordinator.remove(call.served.desk, call.who, call.run, call.path["site"])))


def leave(call: Call) -> Reply:
    """Take consent back."""
    return Reply(views.membership(site.leave(call.served.desk, call.who, call.run, call.body.get("why", ""))))


def heartbeat(call: Call) -> Reply:
    """Tell that a site is alive."""
    presence = site.heartbeat(call.served.desk, call.who, call.run, call.body["status"])
    return Reply({"seen": presence.seen, "status": presence.status})


def _shown(call: Call, run: Run) -> dict[str, object]:
    return views.run(run, reading.own(call.served.desk, call.who, run.id))


def _moves(case: Callable[[Desk, Principal, str], Run]) -> Callable[[Call], Reply]:
    return lambda call: Reply(_shown(call, case(call.served.desk, call.who, call.run)))


def _joins(case: Callable[[Desk, Principal, str], Membership]) -> Callable[[Call], Reply]:
    return lambda call: Reply(views.membership(case(call.served.desk, call.who, call.run)))


_ONE = "/v1/runs/{run}"
_REFUSED = (403, 404, 409, 429)
#: Bytes of a body with a model: a Lambda takes no more than 6 MB.
_LARGEST_MODEL = 6_000_000
_MOVES = {
    "invite": (coordinator.invite, "Ask all participants."),
    "start": (coordinator.start, "Begin with those who have accepted."),
    "pause": (coordinator.pause, "Take no commits until it is resumed."),
    "resume": (coordinator.resume, "Go on."),
    "abort": (coordinator.abort, "End without a result."),
}
_JOINS = {
    "decline": (site.decline, "Say no to an invitation, for good."),
    "rejoin": (site.rejoin, "Come back after missing so many steps that nobody waits any more."),
}

OPERATIONS = (
    Operation(
        "POST", "/v1/runs", "create_run", "Make a draft.", create, {201: ref("Run")}, (403, 404, 409, 429),
        body=ref("Spec"), keyed=True,
    ),
    Operation(
        "GET", "/v1/runs", "runs", "The caller's runs, newest first; an administrator's are all.", listed,
        {200: ref("RunLines")}, query=page_query(),
    ),
    Operation("GET", _ONE, "run", "A run and its spec.", show, {200: ref("Run")}, (404,)),
    Operation(
        "PUT", f"{_ONE}/spec", "revise", "Give a draft another spec.", revise, {200: ref("Run")}, _REFUSED,
        body=ref("Spec"),
    ),
    Operation(
        "POST", f"{_ONE}/initial-model", "initial_model", "Let a draft start from an exported model.", start_from,
        {200: ref("Run")}, _REFUSED, body=ref("InitialModel"), most=_LARGEST_MODEL,
    ),
    Operation(
        "DELETE", _ONE, "forget", "Delete a run that has ended, and all its files.", forget, {204: None},
        (403, 404, 409), required=("digest",),
        query={"digest": {"type": "string", "maxLength": 64, "description": "Of its spec: which one is meant."}},
    ),
    *(
        Operation("POST", f"{_ONE}/{name}", name, summary, _moves(case), {200: ref("Run")}, (*_REFUSED, 410))
        for name, (case, summary) in _MOVES.items()
    ),
    *(
        Operation("POST", f"{_ONE}/{name}", name, summary, _joins(case), {200: ref("Membership")}, (*_REFUSED, 410))
        for name, (case, summary) in _JOINS.items()
    ),
    Operation(
        "POST", f"{_ONE}/leave", "leave", "Take consent back, for good.", leave, {200: ref("Membership")},
        (*_REFUSED, 410), body=ref("Leaving"),
    ),
    Operation(
        "POST", f"{_ONE}/heartbeat", "heartbeat", "Tell that a site is alive, and what it does.", heartbeat,
        {200: ref("Presence")}, _REFUSED, body=ref("Heartbeat"),
    ),
    Operation("GET", f"{_ONE}/members", "members", "Who is in a run.", members, {200: ref("Members")}, (404,)),
    Operation(
        "DELETE", f"{_ONE}/members/{{site}}", "remove", "Take a site out of a run, for good.", remove,
        {200: ref("Membership")}, (*_REFUSED, 410),
    ),
)  # fmt: skip
