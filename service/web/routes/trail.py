"""What has become of a run: its audit trail, its series, its models, and a summary."""

from __future__ import annotations

import json

from computation.wire.payload import PREFIX
from service.cases import reading
from service.protocol import File, Step
from service.web import views
from service.web.operations import Call, Operation, Reply, page_query, ref
from service.web.routes.rounds import result_file

__all__ = ["OPERATIONS"]

#: The models among the files of the centre's results.
_MODELS = {f"{PREFIX}{name}.bin": name for name in ("final", "best")}


def events(call: Call) -> Reply:
    """Page through the audit trail."""
    desk, query = call.served.desk, call.query
    found, cursor = reading.events(desk, call.who, call.run, query["after"], query["limit"])
    return Reply({"items": [views.event(one) for one in found], "cursor": cursor}, pending=not found)


def metrics(call: Call) -> Reply:
    """Page through the rounds' loss and Dice."""
    desk, query = call.served.desk, call.query
    found, cursor = reading.steps(desk, call.who, call.run, query["after"], query["limit"])
    points = [views.point(one) for one in found]
    return Reply({"items": [one for one in points if one], "cursor": cursor})


def models(call: Call) -> Reply:
    """Say where the final and the best model are."""
    step = reading.ending(call.served.desk, call.who, call.run)
    files = {file.name: _MODELS[file.name] for file in _files(step) if file.name in _MODELS}
    return Reply({"items": {name: result_file(call, step.number, file) for file, name in files.items() if step}})


def _files(step: Step | None) -> tuple[File, ...]:
    return step.result.files if step and step.result else ()


def report(call: Call) -> Reply:
    """Sum a run up."""
    desk = call.served.desk
    run, step = reading.run(desk, call.who, call.run), reading.ending(desk, call.who, call.run)
    newest = reading.step(desk, call.who, call.run) if run.step >= 0 else None
    papers = newest.result.papers if newest and newest.result else ()
    return Reply(
        {
            "papers": [result_file(call, run.step, paper.name) for paper in papers],
            "run": views.run(run, reading.own(desk, call.who, call.run)),
            "members": [views.member(one) for one in reading.members(desk, call.who, call.run)],
            "results": json.loads(step.result.message) if step and step.result else None,
        }
    )


_RUN = "/v1/runs/{run}"
OPERATIONS = (
    Operation(
        "GET", f"{_RUN}/events", "events", "The audit trail after a cursor, oldest first.", events,
        {200: ref("Events")}, (404,), query=page_query(), waits=True,
    ),
    Operation(
        "GET", f"{_RUN}/metrics", "metrics", "Loss and Dice of each round, page by page.", metrics,
        {200: ref("Points")}, (404,), query=page_query(),
    ),
    Operation(
        "GET", f"{_RUN}/model", "models", "The final and the best model, once the run has them.", models,
        {200: ref("Models")}, (403, 404),
    ),
    Operation("GET", f"{_RUN}/report", "report", "A summary and papers.", report, {200: ref("Report")}, (403, 404)),
)  # fmt: skip
