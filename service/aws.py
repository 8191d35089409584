"""What Lambda calls: the API and pages, the aggregator, and a look once a minute; see `infrastructure/functions.tf`.

They are the same application as the embedded one. Where something has happened in a run it leaves a note in a queue;
an aggregator takes notes and works as the embedded worker does, and the look leaves notes for steps that are due but of
which no note is left: one that got lost only delays. A note too many finds nothing to do.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from computation.checks import parse_json
from computation.errors import MeshNetError, ServiceError
from service.blobs.s3 import S3Blobs
from service.cases.desk import Desk, active
from service.protocol.identifiers import is_identifier
from service.protocol.records import Run, Step
from service.store.base import Store
from service.store.dynamodb import DynamoStore

if TYPE_CHECKING:
    from service.identity.cognito import Cognito
    from service.identity.records import Account
    from service.web.dashboard import Front
    from service.worker import Worker

__all__ = ["aggregate", "api", "due", "overdue", "tick"]

log = logging.getLogger("service.aws")
logging.getLogger("service").setLevel(logging.INFO)

#: Milliseconds for which a claim holds. A Lambda that is killed says nothing; the look finds its claim a minute later.
_LEASE = 30_000
#: Milliseconds after its time at which a step counts as one that somebody should look at.
_LATE = 120_000
#: The only folder of a Lambda that can be written.
_FOLDER = Path("/tmp/meshnet")
#: Of the clients for queue and user pool.
_CONFIG = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=2, read_timeout=5)
#: Users of one role that the form of a run lists.
_MOST_PEOPLE = 300


def api(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request for the API or a page that came through the gateway."""
    return _application()(event, context)


def aggregate(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Work off notes; those that failed come again, and at last lie among the dead letters."""
    failed = []
    for record in event["Records"]:
        try:
            _worker().work(_noted(record["body"]))
        except MeshNetError as error:
            log.error("a note was not worked off: %s", error.public)
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def tick(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Leave a note for every run that has something to do, and say how many steps are overdue.

    The line that this prints is read by a metric, see `infrastructure/logs.tf`.
    """
    desk = _desk(ringing=True)
    found = [(run, step) for run, step in _standing(desk) if due(desk.store, step, desk.clock())]
    for run, _ in found:
        desk.ring(run.id)
    told = {"due": len(found), "overdue": sum(overdue(step, desk.clock()) for _, step in found)}
    print(json.dumps(told))
    return told


def _standing(desk: Desk) -> Iterator[tuple[Run, Step]]:
    """Yield the runs that go on, each with the step at which it stands."""
    for step in active(desk):
        run = desk.store.run(step.run)
        if run is not None and run.state == "running" and run.step == step.number:
            yield run, step


def due(store: Store, step: Step, now: int) -> bool:
    """Tell whether a worker would find something to do about a step."""
    if step.state == "aggregating":
        return step.lease <= now
    if 0 < step.deadline <= now or step.number == 0:
        return True  # of a run that goes on, the join is over
    return len(store.updates(step.run, step.number)) >= len(step.expected)


def overdue(step: Step, now: int) -> bool:
    """Tell whether a step should have been over for long."""
    ends = step.lease if step.state == "aggregating" else step.deadline
    return 0 < ends <= now - _LATE


def _noted(body: str) -> str:
    """Return the run that a note is about."""
    try:
        note = parse_json(body.encode())
    except ValueError:
        note = None
    run = note.get("run") if isinstance(note, dict) else None
    if not isinstance(run, str) or not is_identifier(run):
        raise ServiceError("a note in the queue names no run; who else writes into it?")
    return run


@cache
def _application() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    from mangum import Mangum

    from service.web.app import application
    from service.web.dashboard import routes
    from service.web.problems import MEDIA_TYPE
    from service.web.served import Served

    # Nothing that waits or streams: each second of a Lambda is paid for.
    served = Served(_desk(ringing=True), _pool(os.environ["MESHNET_CLIENT"]), longest_wait=0)
    made = application(served, routes(_front(served.desk)), streams=False)
    handler: Callable[[dict[str, Any], Any], dict[str, Any]] = Mangum(
        made, lifespan="off", text_mime_types=["text/", "application/json", MEDIA_TYPE]
    )
    return handler


def _pool(client: str) -> Cognito:
    from service.identity.cognito import Cognito
    from service.identity.keys import fetched

    keys = os.environ["MESHNET_KEYS"]
    return Cognito(os.environ["MESHNET_ISSUER"], [client], fetch=lambda: fetched(keys))


def _front(desk: Desk) -> Front:
    """Return what pages are made with; tokens of their own client are none of the API's, nor the other way round."""
    from service.identity.hosted import Door, Hosted
    from service.web.dashboard import Front
    from service.web.dashboard.hosted import CALLBACK, LEFT
    from service.web.dashboard.tabs import of_runs

    address, client = os.environ["MESHNET_ADDRESS"], os.environ["MESHNET_PAGES"]
    door = Door(os.environ["MESHNET_DOOR"], client, address + CALLBACK, address + LEFT)
    identity = Hosted(desk.store, _pool(client), door, _people)
    secure = address.startswith("https://")
    return Front(desk, identity, address=address, secure=secure, streams=False, tabs=of_runs)


def _people() -> tuple[Account, ...]:
    """Return the pool's users that may be in a run, by name."""
    from service.identity.records import Account

    client = get_session().create_client("cognito-idp", config=_CONFIG)
    pool = os.environ["MESHNET_ISSUER"].rpartition("/")[2]
    roles: dict[tuple[str, str], set[str]] = {}
    try:
        for role in ("site", "viewer"):
            pages = client.get_paginator("list_users_in_group").paginate(UserPoolId=pool, GroupName=role)
            for user in islice((user for page in pages for user in page["Users"] if user["Enabled"]), _MOST_PEOPLE):
                sub = next(one["Value"] for one in user["Attributes"] if one["Name"] == "sub")
                roles.setdefault((user["Username"], sub), set()).add(role)
    except (BotoCoreError, ClientError) as error:
        text = "the user pool does not tell who may be in a run; try again in a minute"
        raise ServiceError(text, type(error).__name__) from error
    return tuple(Account(sub, name, frozenset(found)) for (name, sub), found in sorted(roles.items()))


@cache
def _worker() -> Worker:
    """Return this Lambda's worker, which is warm as long as the Lambda is."""
    from service.worker import Worker

    # It works until there is nothing more to do, so it need not ring for itself.
    return Worker(_desk(ringing=False), _FOLDER, _LEASE)


@cache
def _desk(ringing: bool) -> Desk:
    store, blobs = DynamoStore(os.environ["MESHNET_TABLE"]), S3Blobs(os.environ["MESHNET_BUCKET"])
    return Desk(store, blobs, ring=_bell(os.environ["MESHNET_QUEUE"])) if ringing else Desk(store, blobs)


def _bell(queue: str) -> Callable[[str], None]:
    client = get_session().create_client("sqs", config=_CONFIG)

    def ring(run: str) -> None:
        try:
            client.send_message(QueueUrl=queue, MessageBody=json.dumps({"run": run}))
        except (BotoCoreError, ClientError) as error:
            log.warning("run %s: no note could be left, the look will: %s", run, type(error).__name__)

    return ring
