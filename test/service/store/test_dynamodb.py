"""What only this store can do wrong: pages of a megabyte, indices that lag, answers that get lost, rights it lacks."""

import http.server
import json
import re
import secrets
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="AWS'S STORE AND FILES ARE NOT TESTED: its extra is not installed")
from service.protocol import Answer, Event, Membership, Presence, Run, Step, Stored, Update, Upload, identifier
from service.protocol.transitions import moved
from service.store.base import Contended, Create, Drop, Hold, Put, Replace, StoreBroken
from service.store.dynamodb import CONFIG, DynamoStore

A = identifier(1_000)
RUN = Run(A, "anna", "draft", "{}", "d" * 64, 1, 1)
STEP = Step(A, 3, "train", ("a", "b"), 10)
EVENT = Event(A, identifier(5), 5, "created", "coordinator")
UPLOAD = Upload(A, 3, "a", "site-a", A, Stored("x.bin", 5, "e" * 64, "runs/x"), 900)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_of_a_megabyte_are_put_together(dynamodb, limit):
    words = " ".join(secrets.token_hex(8) for _ in range(6_000))
    for number in range(25):
        dynamodb.write(Create(replace(EVENT, id=identifier(number * 1_000), detail={"text": words})))
    assert len(dynamodb.events(A, "", 100)[0]) == 25
    found, cursor = [], ""
    while page := dynamodb.events(A, cursor, limit)[0]:
        found, cursor = [*found, *page], page[-1].id
    assert [event.id for event in found] == sorted(event.id for event in found)
    assert len({event.id for event in found}) == 25
    dynamodb.forget(A)
    assert dynamodb.events(A, "", 100)[0] == ()


def test_more_records_than_one_request_may_ask_for(dynamodb):
    for number in range(130):
        dynamodb.write(Create(replace(RUN, id=identifier(number * 1_000))))
    runs, cursor = dynamodb.runs("", 120)
    assert len(runs) == 120
    assert len(dynamodb.runs(cursor, 120)[0]) == 10


def test_an_index_that_lags_behind_is_not_believed(dynamodb):
    steps = [replace(STEP, number=number) for number in range(3)]
    for step in steps:
        dynamodb.write(Create(step))
    for number in (0, 1):
        _as_the_index_was_before(dynamodb, moved(steps[number], state="published"))
    assert dynamodb.active("", 1) == ((steps[2],), "")


def _as_the_index_was_before(store, step):
    """Publish a step without the index hearing of it."""
    from service.store.dynamodb import _item

    entry = {name: {"S": value} for name, value in (("gsi2pk", "ACTIVE"), ("gsi2sk", "/".join(step.key)))}
    store._client.put_item(TableName=store._table, Item={**_item(step), **entry})


class _Lossy(http.server.BaseHTTPRequestHandler):
    """Passes requests on, and loses the first answers of those that write."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refusals:
            self._answer(*self.server.refusals.pop(0))
            return
        request = urllib.request.Request(self.server.behind, body, dict(self.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if self.headers["X-Amz-Target"].endswith("TransactWriteItems") and self.server.losing > 0:
            self.server.losing -= 1
            self.close_connection = True
            return
        self._answer(status, content)

    def _answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def lossy(emulator, dynamodb):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Lossy)
    server.behind, server.losing, server.refusals = emulator.url, 0, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, DynamoStore(dynamodb._table, _client(f"http://127.0.0.1:{server.server_port}"))
    server.shutdown()
    server.server_close()


def _client(url, **words):
    import boto3
    from emulator import DUMMY

    return boto3.client("dynamodb", endpoint_url=url, **DUMMY, config=CONFIG.merge(type(CONFIG)(**words)))


def test_a_write_whose_answer_got_lost_is_done_once_and_succeeds(lossy, dynamodb):
    server, store = lossy
    store.write(Create(RUN))
    server.losing = 2
    # Done at the first try; at the second its condition would not hold any more.
    store.write(Replace(moved(RUN, state="inviting")), Create(EVENT))
    assert server.losing == 0
    assert dynamodb.run(A).version == 1
    with pytest.raises(Contended):
        store.write(Replace(moved(RUN, state="aborted")))


def _refusal(kind, *reasons):
    told = {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": "not now"}
    if reasons:
        told["CancellationReasons"] = [{"Code": one} for one in reasons]
    return 400, json.dumps(told).encode()


@pytest.mark.parametrize(
    "refusal",
    [
        _refusal("TransactionCanceledException", "ThrottlingError", "None"),
        _refusal("TransactionCanceledException", "None", "ProvisionedThroughputExceeded"),
        _refusal("TransactionInProgressException"),
        _refusal("ThrottlingException"),
        (503, b"{}"),
        (500, b"<html>"),
    ],
    ids=range(6),
)
def test_a_busy_table_is_asked_again(lossy, refusal):
    server, store = lossy
    server.refusals = [refusal] * 2
    store.write(Create(RUN), Create(EVENT))
    assert server.refusals == []
    assert store.run(A) == RUN


@pytest.mark.parametrize(
    "reasons",
    [
        ("TransactionConflict", "None"),
        ("None", "ConditionalCheckFailed"),
        ("ConditionalCheckFailed", "ThrottlingError"),
    ],
)
def test_others_that_were_faster_are_told_at_once(lossy, reasons):
    server, store = lossy
    server.refusals = [_refusal("TransactionCanceledException", *reasons)]
    with pytest.raises(Contended):
        store.write(Create(RUN), Create(EVENT))
    assert server.refusals == []
    assert store.run(A) is None


def test_a_table_that_stays_busy_is_broken_and_nothing_is_written(lossy, monkeypatch):
    server, store = lossy
    monkeypatch.setattr("service.store.dynamodb._TRIES", 3)
    server.refusals = [_refusal("TransactionCanceledException", "ThrottlingError")] * 3
    with pytest.raises(StoreBroken, match="busier"):
        store.write(Create(RUN))
    assert store.run(A) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:9"])
def test_a_table_that_cannot_be_reached_is_broken(url):
    store = DynamoStore("table", _client(url, retries={"max_attempts": 1}))
    for use in (
        lambda: store.write(Create(RUN)),
        lambda: store.run(A),
        lambda: store.active("", 5),
        lambda: store.forget(A),
        lambda: store.updates(A, 3),
    ):
        with pytest.raises(StoreBroken) as caught:
            use()
        assert "table" in caught.value.public
        assert "127.0.0.1" not in caught.value.public


def test_a_table_that_is_not_there_is_broken(emulator):
    store = DynamoStore("nowhere", emulator.client("dynamodb"))
    for use in (lambda: store.write(Create(RUN)), lambda: store.run(A), lambda: store.runs("", 5)):
        with pytest.raises(StoreBroken):
            use()


def test_what_is_too_large_even_deflated_is_refused_whole(dynamodb):
    noise = secrets.token_hex(900_000)
    with pytest.raises(StoreBroken):
        dynamodb.write(Create(RUN), Create(replace(EVENT, detail={"text": noise})))
    assert dynamodb.run(A) is None


@pytest.mark.parametrize("name", ["a#b", "a%23b", "a%b", "#", "%", "ü#", "a b"])
def test_names_with_our_separator_are_told_apart(dynamodb, name):
    dynamodb.write(Create(Answer("anna", name, "c", "", "1", 9)), Create(Answer("anna", f"{name}#c", "", "", "2", 9)))
    dynamodb.write(Create(Answer(f"anna#{name}", "c", "", "", "3", 9)))
    assert dynamodb.answer("anna", name, "c").outcome == "1"
    assert dynamodb.answer("anna", f"{name}#c", "").outcome == "2"
    assert dynamodb.answer(f"anna#{name}", "c", "").outcome == "3"
    assert dynamodb.answer("anna", "c", "") is None


#: What a transaction's parts are called where rights are given.
_PARTS = {"Put": "PutItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


def test_it_asks_for_what_its_role_may_and_scans_nothing(dynamodb):
    asked = set()

    def note(params, model, **_):
        if model.name == "TransactWriteItems":
            asked.update(_PARTS[part] for part in re.findall(r'"(\w+)": \{"TableName"', params["body"].decode()))
        else:
            asked.add(model.name)

    dynamodb._client.meta.events.register("before-call.dynamodb", note)
    dynamodb.write(*map(Create, (RUN, STEP, EVENT, UPLOAD, Membership(A, "x", "site", "invited"))))
    dynamodb.write(Hold(RUN), Replace(moved(STEP)), Drop(UPLOAD), Put(Presence(A, "x", 1, "waiting")))
    dynamodb.write(Create(Update(A, 3, "a", "x", "{}", (), "", 1)))
    for read in (dynamodb.runs, dynamodb.active):
        assert read("", 5)[0]
    assert dynamodb.memberships_of("x", "", 5)[0]
    assert dynamodb.updates(A, 3)
    assert dynamodb.run(A)
    dynamodb.forget(A)
    rights = (Path(__file__).parents[3] / "infrastructure/access.tf").read_text()
    given = set(re.findall(r'"dynamodb:(\w+)"', rights))
    assert asked == given
