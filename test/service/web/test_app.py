"""What holds for every request: routes and description are the same, problems are documents, answers can be kept."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.routing import Route

from service.web import openapi
from service.web.operations import Operation
from service.web.routes import OPERATIONS
from service.web.schemas import NAMED

ROOT = Path(__file__).parents[3]


def test_routes_and_description_are_the_same(house):
    described = {
        (path, verb.upper())
        for path, verbs in house.client().get(openapi.PATH).json()["paths"].items()
        for verb in verbs
    }
    routes = {
        (re.sub(r":path}", "}", route.path), verb)
        for route in house.app.routes
        if isinstance(route, Route)
        for verb in route.methods - {"HEAD"}
    }
    assert routes == described


def test_without_accounts_of_its_own_a_service_has_none_of_their_paths():
    paths = openapi.document(False)["paths"]
    assert not [path for path in paths if path.startswith(("/v1/auth", "/v1/accounts"))] and "/v1/me" in paths


def test_names_are_given_once_and_every_reference_is_known():
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    text = str(openapi.document(True))
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_every_schema_is_one(name):
    other = pytest.importorskip("jsonschema_rs", reason="NOT HELD AGAINST ANOTHER READER: schemathesis is not there")
    assert other.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **NAMED[name]})


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not one.open], ids=lambda one: one.name)
def test_nobody_does_anything_without_a_token(house, operation: Operation):
    path = re.sub(r"{\w+}", "1", operation.path)
    answer = house.client()(operation.method, path, body={} if operation.body else None)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    for wrong in ("Basic YTpi", "Bearer", "Bearer a b", "bearer  ", "Bearer \xe9", "mna_" + "A" * 43):
        headers = {"Authorization": wrong.encode("latin-1")}
        answer = house.client()(operation.method, path, headers=headers)
        assert answer.status_code == 401, wrong


def test_a_body_never_says_who_asks(house):
    carl, cleo = house.client("carl"), house.subjects["cleo"]
    run = carl.post("/v1/runs", house.spec()).json()
    assert run["owner"] == house.subjects["carl"]
    for extra in ({"owner": cleo}, {"sub": cleo}, {"subject": cleo}):
        assert carl.post("/v1/runs", {**house.spec(), **extra}).status_code == 422
    carl.post(f"/v1/runs/{run['id']}/invite")
    north = house.client("north")
    body = {"status": "training", "subject": house.subjects["south"], "site": "south"}
    assert north.post(f"/v1/runs/{run['id']}/heartbeat", body).status_code == 422


def test_a_path_or_verb_that_there_is_not_is_a_problem(house):
    carl = house.client("carl")
    for path in ("/", "/v1", "/v1/", "/v1/runs/", "/v2/runs", "/v1/runs/..%2faccounts", "/%00", "/v1/runs/x/y/z"):
        assert carl.get(path).status_code == 404, path
    answer = carl("PATCH", "/v1/runs")
    assert answer.status_code == 405 and set(answer.headers["allow"].split(", ")) >= {"GET", "POST"}
    assert carl("TRACE", "/v1/runs").status_code == 405


@pytest.mark.parametrize(
    "run",
    ["x", "..", "%2e%2e", "%2e%2e%2fetc", "0", "'; DROP TABLE records --", "a" * 5000, "%00", "\u202e",
     "01a31887-6358-700f-8042-fcd126a9e189"],
    ids=range(10),
)  # fmt: skip
def test_a_run_that_is_none_is_not_found(house, run):
    carl = house.client("carl")
    for method, rest in (("GET", ""), ("GET", "/round"), ("POST", "/abort"), ("GET", "/events"), ("GET", "/rounds/0")):
        assert carl(method, f"/v1/runs/{run}{rest}", checked=False).status_code in (404, 405)


@pytest.mark.parametrize("number", ["-1", "1e3", "999999999999999999999", "x", "%00", "1.0", "٣", "0x0"])
def test_a_step_that_is_none_is_not_found(house, number):
    carl = house.client("carl")
    run = f"/v1/runs/{carl.post('/v1/runs', house.spec()).json()['id']}"
    carl.post(f"{run}/invite")
    assert carl.get(f"{run}/rounds/{number}").status_code == 404
    assert carl.get(f"{run}/rounds/{number}/result").status_code == 404


def test_an_answer_that_has_not_changed_is_not_sent_again(house):
    carl = house.client("carl")
    path = f"/v1/runs/{carl.post('/v1/runs', house.spec()).json()['id']}"
    first = carl.get(path)
    tag = first.headers["etag"]
    again = carl.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == tag
    carl.post(f"{path}/invite")
    changed = carl.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag
    assert house.client("cleo").get(path, headers={"If-None-Match": tag}).status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400), (b"{", "application/json", 400), (b"\xff\xfe", "application/json", 400),
        (b"NaN", "application/json", 400), (b'{"name": 1e999}', "application/json", 400),
        (b'{"name": "a", "name": "b", "password": "c"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400), (b'"' + b"\\ud800" + b'"', "application/json", 400),
        (b"[]", "application/json", 422), (b"null", "application/json", 422), (b'"x"', "application/json", 422),
        (b'{"name": "a"}', "application/json", 422), (b'{"name": 7, "password": "c"}', "application/json", 422),
        (b'{"name": "a", "password": "c", "more": 1}', "application/json", 422),
        (b"{}", "text/plain", 415), (b"{}", "", 415), (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"x" * 300_000, "application/json", 413), (b'{"name": "' + b"x" * 300 + b'"}', "application/json", 422),
    ],
    ids=range(19),
)  # fmt: skip
def test_a_body_that_cannot_be_is_a_problem(house, content, kind, status):
    answer = house.client()("POST", "/v1/auth/login", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status and len(answer.content) < 1000


def test_a_body_in_pieces_is_read_no_further_than_its_limit(house):
    sent = []

    async def endless():
        while True:
            sent.append(b"[" * 65_536)
            yield sent[-1]

    answer = house.client()("POST", "/v1/auth/login", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and len(sent) < 10
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert house.client()("POST", "/v1/auth/login", content=b"{}", headers=packed).status_code == 415


def test_nobodys_body_is_not_read(house):
    async def endless():
        raise AssertionError("it was read")
        yield b""

    answer = house.client("mna_" + "A" * 43)("POST", "/v1/runs", content=endless())
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=1&limit=2", "more=1", "wait=1", "after=" + "x" * 201]
)
def test_a_query_that_cannot_be_is_a_problem(house, query):
    assert house.client("carl").get(f"/v1/runs?{query}").status_code == 422


def test_pages_are_whole_whatever_their_length(house):
    carl = house.client("carl")
    made = [carl.post("/v1/runs", house.spec()).json()["id"] for _ in range(5)]
    for limit in (1, 2, 4, 5, 200):
        found, cursor = [], ""
        while True:
            page = carl.get("/v1/runs", params={"limit": limit, "after": cursor}).json()
            found += [one["id"] for one in page["items"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert found == made[::-1]
    for cursor in ("x", "'", "%", "\x01", "01a31887"):
        assert carl.get("/v1/runs", params={"after": cursor}).status_code in (200, 422)


def test_a_key_makes_one_run_however_often_it_comes(house):
    carl, cleo = house.client("carl"), house.client("cleo")
    key = {"Idempotency-Key": "k-1"}
    first = carl.post("/v1/runs", house.spec(), headers=key)
    again = carl.post("/v1/runs", house.spec(), headers=key)
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    assert first.headers["location"] == f"/v1/runs/{first.json()['id']}"
    assert carl.post("/v1/runs", house.spec(quorum=2), headers=key).status_code == 409
    assert cleo.post("/v1/runs", house.spec(), headers=key).json()["id"] != first.json()["id"]
    for wrong in ("", "x" * 129, "a b", "\x7f"):
        assert carl.post("/v1/runs", house.spec(), headers={"Idempotency-Key": wrong}).status_code == 422

    async def at_once():
        headers = {"Idempotency-Key": "k-2"}
        asked = [carl.asks("POST", "/v1/runs", body=house.spec(), headers=headers) for _ in range(8)]
        return {answer.json()["id"] for answer in await asyncio.gather(*asked)}

    assert len(asyncio.run(at_once())) == 1


def test_the_web_does_without_torch():
    code = "import sys, service.web.app, service.identity.cognito; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_store_that_fails_is_503_and_nobodys_fault(house):
    carl = house.client("carl")
    house.local.records.close()
    answer = carl.get("/v1/runs")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert house.client().get("/healthz").status_code == 200


def test_what_nobody_foresaw_is_500_without_a_word_of_it(house, monkeypatch):
    def broken(*_):
        raise RuntimeError("/secret/path token mna_x subject 7a1c")

    monkeypatch.setattr(type(house.desk.store), "run", broken)
    answer = house.client("carl").get("/v1/runs/01a31887-6358-700f-8042-fcd126a9e189")
    assert answer.status_code == 500 and "secret" not in answer.text and answer.json()["request"] in str(answer.headers)
