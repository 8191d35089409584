"""What a site does in a run, step by step. A round of these paths is a step: 0 is the join, 1 the first training round.

A site accepts with what its handler answers to the join; then, for each n, it waits for the result of step n, gives it
to its handler, and commits what that answers to step n + 1.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from service.blobs.base import Signed
from service.cases import committing, reading
from service.cases.committing import Content
from service.cases.desk import Desk
from service.cases.reading import Fetched
from service.identity.principal import Principal
from service.protocol import File, Gone, Malformed, Result, Run, Step
from service.protocol.records import ENDED
from service.web import views
from service.web.operations import Call, Encoded, Operation, Reply, encode, page_query, ref
from service.web.served import Served
from service.web.shapes import Schema

__all__ = ["OPERATIONS", "result_file"]

#: Bytes of the largest file that may come inside an answer, and of all of them: a Lambda answers with 6 MB at most.
_MOST_INLINE, _MOST_TOGETHER = 2**20, 3 * 2**20
#: Bytes of a body with a message and small files.
_LARGEST = 2 * 2**20
#: Seconds after which it is worth asking again for a result.
_AGAIN = "1"


def current(call: Call) -> Reply:
    """Say where a run stands."""
    return Reply(views.standing(reading.standing(call.served.desk, call.who, call.run)))


def steps(call: Call) -> Reply:
    """List a run's steps."""
    desk, query = call.served.desk, call.query
    found, cursor = reading.steps(desk, call.who, call.run, query["after"], query["limit"])
    return Reply({"items": [views.step(one) for one in found], "cursor": cursor})


def step(call: Call) -> Reply:
    """Show a step."""
    return Reply(views.step(reading.step(call.served.desk, call.who, call.run, call.number)))


def reserve(call: Call) -> Reply:
    """Reserve room for a file."""
    told = call.body["name"], call.body["size"], call.body["sha256"]
    return Reply(views.upload(*committing.reserve(call.served.desk, call.who, call.run, call.number, *told)), 201)


def accept(call: Call) -> Reply:
    """Consent to a run."""
    content = _content(call, "")
    update, new = committing.accept(call.served.desk, call.who, call.run, call.body["consent"], content)
    return Reply(views.update(update), 201 if new else 200)


def commit(call: Call) -> Reply:
    """Commit an update."""
    content = _content(call, call.body["base"])
    update, new = committing.commit(call.served.desk, call.who, call.run, call.number, content)
    reply = Reply(views.update(update), 201 if new else 200)
    later = partial(_followed, reply, call.served, call.run, call.number, call.query["inline"])
    # To what was committed before the centre may have answered before; then nothing more rings.
    return replace(reply, pending=True, later=later) if new else later(call.who)


def _content(call: Call, base: str) -> Content:
    try:
        inline = {
            name: base64.b64decode(text.encode("ascii"), validate=True)
            for name, text in call.body.get("inline", {}).items()
        }
    except ValueError:
        raise Malformed("inline", "a file in the body is no base64; wanted RFC 4648's, padded") from None
    return Content(call.body["message"], base, call.body.get("uploads", []), inline)


def result(call: Call) -> Reply:
    """Return what the centre answered to a step, or say that it has not yet."""
    run, found, shown = _result(call.served, call.who, call.run, call.number, call.query["inline"])
    if shown is not None:
        return Reply(shown)
    if _over(run, found):
        text = f"the run has {run.state} before step {found.number} was closed; it has no result"
        raise Gone(run.state, text, reason=run.reason, detail=run.detail)
    return Reply({"number": found.number, "state": found.state}, 202, {"Retry-After": _AGAIN}, pending=True)


def _followed(reply: Reply, served: Served, id: str, number: int, inline: int, who: Principal) -> Reply:
    """Return the answer to a commit, with the result of its step where there is one."""
    run, found, shown = _result(served, who, id, number, inline)
    if shown is not None:
        return replace(reply, body={**reply.body, "result": shown})
    return replace(reply, pending=not _over(run, found))


def _result(served: Served, who: Principal, id: str, number: int, inline: int) -> tuple[Run, Step, Encoded | None]:
    run, found = reading.answered(served.desk, who, id, number)
    if found.result is None:
        return run, found, None
    key = id, number, found.result.digest, inline
    make = partial(_published, served.desk, id, found, found.result, inline)
    return run, found, served.recent.get(key, served.desk.clock(), make)


def _published(desk: Desk, id: str, step: Step, result: Result, inline: int) -> Encoded:
    files = [_file(one) for one in reading.files(desk, id, result, inline, _MOST_TOGETHER)]
    return encode({**views.result(step, result), "files": files})


def _over(run: Run, step: Step) -> bool:
    return step.state == "cancelled" or run.state in ENDED


def result_file(call: Call, number: int, name: str) -> dict[str, object]:
    """Show a file or paper of a result and where to fetch it."""
    return _shown(*reading.link(call.served.desk, call.who, call.run, number, name))


def _file(one: Fetched) -> dict[str, object]:
    """Show a file and, if it came with it, its content."""
    shown = _shown(one.file, one.where)
    return shown if one.content is None else {**shown, "content": base64.b64encode(one.content).decode()}


def _shown(file: File, where: Signed) -> dict[str, object]:
    return {**views.file(file), "fetch": views.signed(where)}


_RUN = "/v1/runs/{run}"
_STEP = _RUN + "/rounds/{number}"
_FILES: Mapping[str, Schema] = {
    "inline": {
        "type": "integer", "minimum": 0, "maximum": _MOST_INLINE, "default": 0,
        "description": "Files of a result that have at most so many bytes come inside the answer.",
    }
}  # fmt: skip
OPERATIONS = (
    Operation(
        "GET", f"{_RUN}/round", "round", "Where a run stands. With If-None-Match, `wait` waits for a change.", current,
        {200: ref("Standing")}, (404,), waits=True,
    ),
    Operation(
        "GET", f"{_RUN}/rounds", "rounds", "A run's steps, oldest first.", steps, {200: ref("Steps")}, (404,),
        query=page_query(),
    ),
    Operation("GET", _STEP, "step", "A step.", step, {200: ref("Step")}, (404,)),
    Operation(
        "POST", f"{_STEP}/uploads", "reserve", "Announce a file, and learn how to send it.", reserve,
        {201: ref("Upload")}, (403, 404, 409, 410, 429), body=ref("Announcement"),
    ),
    Operation(
        "POST", f"{_RUN}/accept", "accept", "Consent to a run's spec, with what the site brings to the join.", accept,
        {201: ref("Update"), 200: ref("Update")}, (403, 404, 409, 410, 429), body=ref("Acceptance"), most=_LARGEST,
    ),
    Operation(
        "POST", f"{_STEP}/updates", "commit",
        "Commit an update; the same once more changes nothing. `wait` waits for the step's result.", commit,
        {201: ref("Update"), 200: ref("Update")}, (403, 404, 409, 410, 429), body=ref("Commit"), most=_LARGEST,
        waits=True, query=_FILES,
    ),
    Operation(
        "GET", f"{_STEP}/result", "result", "What the centre answered to a step.", result,
        {200: ref("Result"), 202: ref("Pending")}, (403, 404, 410), waits=True, query=_FILES,
    ),
)  # fmt: skip
