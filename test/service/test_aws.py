"""What Lambda calls, with the events that it is called with; table, bucket, queue and user pool are an emulator's."""

import hashlib
import json
import re
import secrets
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest

pytest.importorskip("boto3", reason="AWS IS NOT TESTED: its extra is not installed")
pytest.importorskip("mangum", reason="AWS IS NOT TESTED: its extra is not installed")
from emulator import DUMMY
from places import ANNA, begun, digest, go, plain, spec

from computation.errors import ServiceError
from service.cases import closing, committing, coordinator
from service.identity.principal import ROLES
from service.protocol import Step, Update, identifier
from service.protocol.transitions import moved
from service.store.base import Create, Replace
from service.worker import Worker

PASSWORD = "Long-enough-and-9"
CONTEXT = SimpleNamespace(aws_request_id="1", function_name="meshnet-api", get_remaining_time_in_millis=lambda: 29_000)


@pytest.fixture
def account(emulator, monkeypatch):
    """Return an account with everything but the functions, which this process is."""
    name = f"one-{secrets.token_hex(4)}"
    emulator.table(name)
    emulator.client("s3").create_bucket(Bucket=name)
    queue = emulator.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    pool = emulator.client("cognito-idp").create_user_pool(PoolName=name)["UserPool"]["Id"]
    for role in ROLES:
        emulator.client("cognito-idp").create_group(GroupName=role, UserPoolId=pool)
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    made = emulator.client("cognito-idp").create_user_pool_client(
        UserPoolId=pool, ClientName=name, ExplicitAuthFlows=flows
    )
    client = made["UserPoolClient"]["ClientId"]
    address = f"https://{name}.execute-api.us-east-1.amazonaws.com"
    made = emulator.client("cognito-idp").create_user_pool_client(
        UserPoolId=pool,
        ClientName="pages",
        AllowedOAuthFlowsUserPoolClient=True,
        AllowedOAuthFlows=["code"],
        AllowedOAuthScopes=["openid"],
        CallbackURLs=[f"{address}/login/callback"],
        LogoutURLs=[f"{address}/logged-out"],
        ExplicitAuthFlows=["ALLOW_REFRESH_TOKEN_AUTH"],
    )
    for key, value in {
        "MESHNET_PAGES": made["UserPoolClient"]["ClientId"],
        "MESHNET_DOOR": emulator.url,
        "MESHNET_ADDRESS": address,
        "MESHNET_TABLE": name,
        "MESHNET_BUCKET": name,
        "MESHNET_QUEUE": queue,
        "MESHNET_ISSUER": f"https://cognito-idp.us-east-1.amazonaws.com/{pool}",
        "MESHNET_CLIENT": client,
        "MESHNET_KEYS": f"{emulator.url}/{pool}/.well-known/jwks.json",
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_DEFAULT_REGION": DUMMY["region_name"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(key, value)
    from service import aws

    for cached in (aws._application, aws._worker, aws._desk):
        cached.cache_clear()
    told = {"pool": pool, "client": client, "queue": queue, "address": address}
    return SimpleNamespace(aws=aws, emulator=emulator, desk=aws._desk(True), **told)


def _token(account, name, role):
    pool = account.emulator.client("cognito-idp")
    user = {"UserPoolId": account.pool, "Username": name}
    pool.admin_create_user(**user)
    pool.admin_set_user_password(**user, Password=PASSWORD, Permanent=True)
    pool.admin_add_user_to_group(**user, GroupName=role)
    given = {"USERNAME": name, "PASSWORD": PASSWORD}
    made = pool.initiate_auth(AuthFlow="USER_PASSWORD_AUTH", ClientId=account.client, AuthParameters=given)
    return made["AuthenticationResult"]


def _ask(account, method, path, token="", body=None, query="", **headers):
    """Return the answer to a request of the API."""
    headers = {"host": "one.execute-api.us-east-1.amazonaws.com", "content-type": "application/json", **headers}
    if token:
        headers["authorization"] = f"Bearer {token}"
    answer = account.aws.api(_event(method, path, query, headers, None if body is None else json.dumps(body)), CONTEXT)
    assert not answer["isBase64Encoded"], "tensors never pass here"
    return answer["statusCode"], json.loads(answer["body"] or "null"), answer["headers"]


def _event(method, path, query, headers, body=None, cookies=()):
    """Return a request as the gateway passes it on: version 2.0 of its event."""
    event = {
        "version": "2.0",
        "routeKey": "ANY /v1/{path+}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "stage": "$default",
        },
        "isBase64Encoded": False,
        "cookies": list(cookies),
    }
    return event if body is None else {**event, "body": body}


def test_health_asks_for_no_token_and_everything_else_for_one(account):
    assert _ask(account, "GET", "/healthz")[0] == 200
    assert _ask(account, "GET", "/readyz")[0] == 200
    status, problem, headers = _ask(account, "GET", "/v1/runs")
    assert (status, headers["content-type"]) == (401, "application/problem+json")
    assert problem["status"] == 401


def test_who_asks_is_told_from_the_pools_token(account):
    made = _token(account, "anna", "coordinator")
    status, me, _ = _ask(account, "GET", "/v1/me", made["AccessToken"])
    assert (status, me["roles"]) == (200, ["coordinator"])
    # The gateway lets this one pass.
    assert _ask(account, "GET", "/v1/me", made["IdToken"])[0] == 401
    assert _ask(account, "GET", "/v1/runs", made["AccessToken"])[:2] == (200, {"items": [], "cursor": ""})


class Browser:
    """Keeps what it is told to in its cookies, by name and value, and follows nothing by itself."""

    def __init__(self, account):
        self.account, self.cookies = account, {}

    def ask(self, path, **form):
        path, _, query = path.removeprefix(self.account.address).partition("?")
        headers = {"host": self.account.address.removeprefix("https://")}
        if form:
            headers["content-type"] = "application/x-www-form-urlencoded"
        told = [f"{name}={value}" for name, value in self.cookies.items()]
        event = _event("POST" if form else "GET", path, query, headers, urlencode(form) if form else None, told)
        answer = self.account.aws.api(event, CONTEXT)
        for given in answer.get("cookies", ()):
            assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(given.split("; "))
            name, _, value = given.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer["statusCode"], answer["body"], answer["headers"]


def test_pages_are_entered_by_the_pools_own_and_their_sessions_lie_in_the_table(account):
    _token(account, "anna", "coordinator")
    _token(account, "north", "site")
    browser = Browser(account)
    assert browser.ask("/")[2]["location"] == "/login"
    status, _, headers = browser.ask("/login?next=/runs/new")
    assert status == 200 and headers["refresh"].startswith(f"0; url={account.emulator.url}")
    back = account.emulator.sign_in(headers["refresh"].partition("url=")[2], "anna", PASSWORD).headers["location"]
    assert Browser(account).ask(back)[0] == 401
    status, body, headers = browser.ask(back)
    assert (status, headers["location"]) == (303, "/runs/new"), body
    token = browser.cookies["__Host-session"]
    assert account.desk.store.session(hashlib.sha256(token.encode()).hexdigest()).subject
    status, page, headers = browser.ask("/runs/new")
    assert status == 200 and "anna" in page and "north" in page
    style = re.search(r'href="(/static/[^"]*dashboard.css)"', page)[1]
    assert "{" in browser.ask(style)[1]
    account.aws._application.cache_clear()
    account.aws._desk.cache_clear()
    assert browser.ask("/")[0] == 200  # another Lambda, which is cold
    assert _ask(account, "GET", "/v1/me", cookie=f"__Host-session={token}")[0] == 401
    stamp = re.search(r'name="stamp" value="([0-9a-f]*)"', page)[1]
    assert browser.ask("/logout", stamp="0" * 64)[0] == 403
    status, _, headers = browser.ask("/logout", stamp=stamp)
    assert status == 200 and "/logout?client_id=" in headers["refresh"]
    browser.cookies["__Host-session"] = token
    assert browser.ask("/")[0] == 303


def test_a_pool_that_does_not_tell_who_may_be_in_a_run_is_503(account, monkeypatch):
    monkeypatch.setenv("MESHNET_ISSUER", "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_nowhere00")
    with pytest.raises(ServiceError, match="does not tell who"):
        account.aws._people()


def test_waiting_is_not_paid_for(account):
    token = _token(account, "anna", "coordinator")["AccessToken"]
    began = time.monotonic()
    assert _ask(account, "GET", f"/v1/runs/{identifier(1)}/round", token, query="wait=20")[0] == 404
    assert time.monotonic() - began < 15


def _notes(account):
    found = account.emulator.client("sqs").receive_message(QueueUrl=account.queue, MaxNumberOfMessages=10)
    return [json.loads(one["Body"])["run"] for one in found.get("Messages", [])]


def _standing(desk, state="running", **told):
    run = coordinator.create(desk, ANNA, spec())
    step = Step(run.id, 3, "train", ("a", "b"), 1, **{"round": 3, "deadline": desk.clock() + 60_000, **told})
    desk.store.write(Replace(moved(run, state=state, step=3)), Create(step))
    return run, step


def _committed(desk, run, *sites):
    for site in sites:
        desk.store.write(Create(Update(run.id, 3, site, site, "{}", (), "", 1)))


def test_the_look_leaves_notes_for_what_is_due_and_counts_what_is_overdue(account, capsys):
    desk, now = account.desk, account.desk.clock()
    waiting, _ = _standing(desk)
    forgotten, _ = _standing(desk)
    _committed(desk, waiting, "a")
    _committed(desk, forgotten, "a", "b")
    late, _ = _standing(desk, deadline=now - 1_000)
    stuck, _ = _standing(desk, deadline=now - 500_000)
    _, step = _standing(desk)
    fallen, other = _standing(desk)
    desk.store.write(Replace(moved(step, state="aggregating", lease=now + 60_000)))
    desk.store.write(Replace(moved(other, state="aggregating", lease=now - 1_000)))
    _standing(desk, "paused", deadline=now - 500_000)
    told = account.aws.tick({}, CONTEXT)
    assert told == {"due": 4, "overdue": 1}
    assert json.loads(capsys.readouterr().out) == told
    assert set(_notes(account)) == {forgotten.id, late.id, stuck.id, fallen.id}


@pytest.mark.slow
def test_a_whole_run_over_aws_ends_with_the_bits_of_one_in_memory(account, desk, worker, tmp_path):
    run, sites = begun(desk, tmp_path / "memory")
    assert go(desk, worker, run, sites).state == "completed"

    class Noted:
        """Works as the queue and the aggregator do, and forgets everything after each step."""

        def work(self, _):
            for one in _notes(account):
                told = account.aws.aggregate({"Records": [_record(json.dumps({"run": one}))]}, CONTEXT)
                assert told == {"batchItemFailures": []}
            account.aws._worker().close()
            account.aws._worker.cache_clear()

    other, sites = begun(account.desk, tmp_path / "aws")
    assert go(account.desk, Noted(), other, sites).state == "completed"
    assert digest(account.desk, other) == digest(desk, run)
    left = account.emulator.client("s3").list_objects_v2(Bucket=account.desk.blobs._bucket)["Contents"]
    assert {one["Key"].rpartition("/")[0] for one in left} == {f"runs/{other}/content"}


def _put(desk, run, number, name, content, principal):
    """Reserve an upload and send it to where S3 takes it, as a client does."""
    sha256 = hashlib.sha256(content).hexdigest()
    upload, signed = committing.reserve(desk, principal, run, number, name, len(content), sha256)
    request = urllib.request.Request(signed.url, content, dict(signed.headers), method=signed.method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    return upload


@pytest.mark.slow
def test_contributions_may_be_sent_to_the_bucket_itself(account, tmp_path, monkeypatch):
    monkeypatch.setattr("places.send", _put)
    other, sites = begun(account.desk, tmp_path / "aws", inline=False)
    for number in range(2):
        assert account.aws._worker().work(other) == 1
        for site in sites:
            site.commit(number + 1)
    stored = account.desk.store.updates(other, 1)
    assert [len(one.files) for one in stored] == [1, 1]
    assert account.aws._worker().work(other) == 1


@pytest.mark.slow
def test_of_commits_and_aggregators_at_once_each_counts_once(account, tmp_path):
    desk = account.desk
    run, made = plain(desk, 12, settings={"epochs": 3})

    def commit(pair):
        return committing.commit(desk, pair[0].who, run, number, pair[1])

    with Worker(desk, tmp_path / "a") as one, Worker(desk, tmp_path / "b") as two, ThreadPoolExecutor(24) as pool:
        assert sum(pool.map(lambda worker: worker.work(run), (one, two))) == 1
        for number in (1, 2, 3):
            pairs = [(site, site.content(number)) for site in made]
            # Each twice, as a client does whose answer got lost.
            sent = list(pool.map(commit, [*pairs, *pairs]))
            assert sum(new for _, new in sent) == 12
            assert sum(pool.map(lambda worker: worker.work(run), (one, two))) == 1
            frozen = dict(desk.store.step(run, number).frozen)
            assert frozen == {update.site: update.digest for update, _ in sent}
            assert len(frozen) == 12


def test_an_aggregator_that_dies_is_replaced_by_the_look(account, tmp_path):
    run, _ = begun(account.desk, tmp_path)
    _notes(account)
    assert closing.claim(account.desk, run, "dead", 1) is not None
    time.sleep(0.05)
    assert account.aws.tick({}, CONTEXT)["due"] == 1
    notes = _notes(account)
    assert notes == [run]
    records = [_record(json.dumps({"run": one})) for one in notes]
    assert account.aws.aggregate({"Records": records}, CONTEXT) == {"batchItemFailures": []}
    step = account.desk.store.step(run, 0)
    assert (step.state, step.attempt, account.desk.store.run(run).step) == ("published", 2, 1)


def _record(body):
    return {"messageId": secrets.token_hex(4), "body": body}


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"run": 1}', '{"run": "../x"}', "\x00", "null", '{"run":' * 400, '"' + "x" * 9000 + '"']
)
def test_a_note_that_is_none_comes_back_and_harms_no_other(account, body):
    bad, good = _record(body), _record(json.dumps({"run": identifier(1)}))
    told = account.aws.aggregate({"Records": [bad, good]}, CONTEXT)
    assert told == {"batchItemFailures": [{"itemIdentifier": bad["messageId"]}]}


def test_a_note_that_comes_twice_or_late_finds_nothing_to_do(account):
    run, _ = _standing(account.desk)
    note = _record(json.dumps({"run": run.id}))
    assert account.aws.aggregate({"Records": [note, note]}, CONTEXT) == {"batchItemFailures": []}
    assert account.desk.store.step(run.id, 3).state == "open"


def test_a_note_comes_back_while_the_table_cannot_be_read(account):
    account.emulator.client("dynamodb").delete_table(TableName=account.desk.store._table)
    note = _record(json.dumps({"run": identifier(1)}))
    told = account.aws.aggregate({"Records": [note]}, CONTEXT)
    assert told == {"batchItemFailures": [{"itemIdentifier": note["messageId"]}]}


def test_a_queue_that_takes_no_note_stops_nothing(account, caplog):
    account.emulator.client("sqs").delete_queue(QueueUrl=account.queue)
    account.desk.ring(identifier(1))
    assert "no note could be left" in caplog.text
    assert account.queue not in caplog.text
