"""What Lambda calls: the API, the aggregator, and a look once a minute; see `infrastructure/functions.tf`.

The API is the same application as the embedded one. Where something has happened in a run it leaves a note in a queue;
an aggregator takes notes and works as the embedded worker does, and the look leaves notes for steps that are due but of
which no note is left: one that got lost only delays. A note too many finds nothing to do.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
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


def api(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a request that came through the gateway."""
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

    from service.identity.cognito import Cognito
    from service.identity.keys import fetched
    from service.web.app import application
    from service.web.problems import MEDIA_TYPE
    from service.web.served import Served

    keys = os.environ["MESHNET_KEYS"]
    pool = Cognito(os.environ["MESHNET_ISSUER"], [os.environ["MESHNET_CLIENT"]], fetch=lambda: fetched(keys))
    # Nothing that waits or streams: each second of a Lambda is paid for.
    served = Served(_desk(ringing=True), pool, longest_wait=0)
    handler: Callable[[dict[str, Any], Any], dict[str, Any]] = Mangum(
        application(served, streams=False), lifespan="off", text_mime_types=["text/", "application/json", MEDIA_TYPE]
    )
    return handler


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
    config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=2, read_timeout=5)
    client = get_session().create_client("sqs", config=config)

    def ring(run: str) -> None:
        try:
            client.send_message(QueueUrl=queue, MessageBody=json.dumps({"run": run}))
        except (BotoCoreError, ClientError) as error:
            log.warning("run %s: no note could be left, the look will: %s", run, type(error).__name__)

    return ring
