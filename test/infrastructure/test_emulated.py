"""All of it at once: Terraform makes everything on an emulator, sites take part through its real HTTP gateway.

It takes minutes, so it runs where MESHNET_AWS_TEST is set, as `make service-aws-test` does.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from consortium import SHORT, database
from emulator import MISSING, Emulator

from simulator.layout import Layout

if "MESHNET_AWS_TEST" not in os.environ:
    pytest.skip("the emulator's long test is `make service-aws-test`", allow_module_level=True)
pytest.importorskip("boto3", reason="AWS IS NOT TESTED: its extra is not installed")
jwt = pytest.importorskip("jwt", reason="AWS IS NOT TESTED: the extra `service` is not installed")
httpx = pytest.importorskip("httpx", reason="AWS IS NOT TESTED: the extra `service` is not installed")
packaging = pytest.importorskip("infrastructure.package", reason="AWS IS NOT TESTED: `packaging` is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PASSWORD = "Long-enough-and-9"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Two rounds to an epoch here.
EPOCHS, ROUNDS = 10, 20
SETTINGS = {**{name: value for name, value in SHORT.items() if name != "data"}, "epochs": EPOCHS}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    if MISSING:
        pytest.skip(f"AWS IS NOT TESTED: {', '.join(MISSING)} is not installed")
    made = Emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def variables(emulator, tmp_path_factory):
    package = tmp_path_factory.mktemp("package") / "api.zip"
    packaging.build(package, PYTHON, "x86_64")
    given = {
        "region": "us-east-1",
        "endpoint": emulator.url,
        "api_package": str(package),
        "aggregator_package": str(package),
        "runtime": f"python{PYTHON}",
        "deletion_protection": "false",
        "destroy_data": "true",
        "alarms": "false",
    }
    return ["-input=false", *(f"-var={name}={value}" for name, value in given.items())]


@pytest.fixture(scope="module")
def service(terraform, emulator, variables):
    applied = terraform.run("apply", "-auto-approve", *variables).stdout
    outputs = json.loads(terraform.run("output", "-json").stdout)
    told = {name: one["value"] for name, one in outputs.items()}
    return SimpleNamespace(**told, emulator=emulator, applied=applied)


def test_it_is_made_whole_and_a_second_plan_is_empty(service, terraform, variables):
    assert "0 changed, 0 destroyed" in service.applied
    planned = terraform.run("plan", "-detailed-exitcode", *variables, expect=(0, 2))
    assert planned.returncode == 0, planned.stdout[-6000:]


def _request(service, method, path, token="", body=None, **headers):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def _user(service, name, role):
    """Make a user as an administrator would, and return its subject and a token."""
    pool = service.emulator.client("cognito-idp")
    user = {"UserPoolId": service.pool, "Username": name}
    made = pool.admin_create_user(**user, TemporaryPassword=PASSWORD, MessageAction="SUPPRESS")["User"]
    pool.admin_set_user_password(**user, Password=PASSWORD, Permanent=True)
    pool.admin_add_user_to_group(**user, GroupName=role)
    given = {"USERNAME": name, "PASSWORD": PASSWORD}
    tokens = pool.initiate_auth(AuthFlow="USER_PASSWORD_AUTH", ClientId=service.client, AuthParameters=given)
    subject = next(one["Value"] for one in made["Attributes"] if one["Name"] == "sub")
    return subject, tokens["AuthenticationResult"]


def _key(service, use="access"):
    """Return the pool's private key: an emulator keeps it in a file."""
    folder = service.emulator.log.parent / "state" / "cognito-pool-keys"
    return (folder / f"{service.pool}-{use}.pem").read_bytes()


def test_tokens_that_are_none_are_refused_and_sound_ones_are_not(service):
    _, made = _user(service, "carl", "coordinator")
    good = made["AccessToken"]
    header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    key, now = _key(service), int(time.time())

    def signed(key=key, algorithm="RS256", kid=header["kid"], **changes):
        told = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(told, key, algorithm, headers={"kid": kid})

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    other = rsa.generate_private_key(65537, 2048)
    public = serialization.load_pem_private_key(key, None).public_key()
    parts = good.split(".")
    cases = {
        "none": "",
        "garbage": "x.y.z",
        "one part": parts[1],
        "tampered": f"{parts[0]}.{parts[1][:-4]}AAAA.{parts[2]}",
        "no signature": f"{parts[0]}.{parts[1]}.",
        "alg none": jwt.encode(claims, None, "none", headers={"kid": header["kid"]}),
        "HS256 with the public key": signed(str(public.public_numbers().n), "HS256"),
        "another key": signed(other),
        "an unknown key": signed(other, kid="another"),
        "expired": signed(exp=now - 10),
        "without an end": signed(exp=None),
        "not yet": signed(nbf=now + 3600),
        "of tomorrow": signed(iat=now + 86_400),
        "another client": signed(client_id="another"),
        "another pool": signed(iss=claims["iss"][:-9] + "another00"),
        "another issuer": signed(iss="https://example.org"),
        "an ID token": made["IdToken"],
        "a refresh token": made["RefreshToken"],
        "for another use": signed(token_use="id"),
        "nobody's": signed(sub=None),
        "huge": good + "A" * 20_000,
    }
    statuses = {name: _request(service, "GET", "/v1/me", token)[0] for name, token in cases.items()}
    assert {name: status for name, status in statuses.items() if status not in (401, 431)} == {}
    assert _request(service, "GET", "/v1/me", good)[0] == 200
    assert _request(service, "GET", "/v1/me", signed(exp=now + 600))[0] == 200
    assert _request(service, "GET", "/healthz")[0] == 200


def _browser(service):
    from offices import Browser

    made = Browser(None)
    made.client = httpx.Client(base_url=service.url, timeout=60)
    return made


def test_pages_are_entered_by_the_pools_own_and_left_by_them(service):
    from offices import shown

    subject, tokens = _user(service, "paula", "coordinator")
    site, _ = _user(service, "nora", "site")
    browser = _browser(service)
    assert browser.get("/runs/new", 303).headers["location"] == "/login?next=%2Fruns%2Fnew"
    door = browser.get("/login?next=%2Fruns%2Fnew").headers["refresh"].partition("url=")[2]
    assert door.startswith(f"{service.door}/oauth2/authorize?")
    assert service.emulator.sign_in(door, "paula", "another").status_code != 302
    back = service.emulator.sign_in(door, "paula", PASSWORD).headers["location"]
    assert back.startswith(f"{service.url}/login/callback?")
    path = back.removeprefix(service.url)
    assert _browser(service).get(path, 401)  # the address alone lets nobody in
    answer = browser.get(path, 303)
    assert answer.headers["location"] == "/runs/new"
    given = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("meshnet-session="))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= {one.strip() for one in given.split(";")}
    page = browser.get("/runs/new")
    assert "paula" in shown(page) and f'name="site-{site}"' in page.text
    for found in re.findall(r'(?:href|src)="(/static/[^"]*)"', page.text):
        assert len(browser.get(found).content) > 100
    told = {"name": "by a page", "key": "k" * 20, f"site-{site}": "on", f"named-{site}": "nora"}
    made = browser.follow(browser.send("/runs/new", **told))
    run = re.search(r'action="/runs/([0-9a-f-]+)"', made.text)[1]
    assert _request(service, "GET", f"/v1/runs/{run}", tokens["AccessToken"])[1]["owner"] == subject
    assert browser.get("/pulse").json()["pulse"]
    # What a page may, the API does not believe, and what the gateway does not know never comes to the app.
    assert browser.client.get("/v1/me").status_code == 401
    assert browser.client.get("/nowhere").status_code == 404
    assert browser.client.post("/login").status_code == 404
    held = dict(browser.client.cookies)
    left = browser.send("/logout", "/")
    assert left.status_code == 200
    gone = httpx.get(left.headers["refresh"].partition("url=")[2])
    assert (gone.status_code, gone.headers["location"]) == (302, f"{service.url}/logged-out")
    assert "You are logged out." in shown(browser.get("/logged-out"))
    browser.client.cookies.update(held)
    browser.get("/", 303)


def _site(service, folder, name, subject, digest, run):
    """Start a site as its machine would: with credentials of the pool in a file."""
    told = {"server": service.url, "sign_in": service.sign_in, "client": service.client}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**told, "username": name, "password": PASSWORD}))
    path.chmod(0o600)
    words = ["join", service.url, "--data", str(folder / "made" / f"{name}.db"), "--output", str(folder / name)]
    words += ["--credentials", str(path), "--consent", digest, "--run", run, "--device", "cpu"]
    with (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "computation.cli", *words]
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_four_sites_through_the_gateway_end_with_the_digest_of_simulate(service, tmp_path):
    names = ("local0", "local1", "local2", "local3")
    _, coordinator = _user(service, "anna", "coordinator")
    token = coordinator["AccessToken"]
    subjects = {name: _user(service, name, "site")[0] for name in names}
    for index, name in enumerate(names):
        database(tmp_path / "made" / f"{name}.db", seed=index)
    participants = [{"subject": subjects[name], "site": name} for name in names]
    spec = {"name": "a run", "settings": SETTINGS, "participants": participants}
    status, run = _request(service, "POST", "/v1/runs", token, spec)
    assert status == 201, run
    at = f"/v1/runs/{run['id']}"
    assert _request(service, "POST", f"{at}/invite", token, {})[0] == 200
    sites = [_site(service, tmp_path, name, subjects[name], run["digest"], run["id"]) for name in names]
    try:
        _until(service, token, at, sites, lambda _: _accepted(service, token, at) == 4, tmp_path)
        assert _request(service, "POST", f"{at}/start", token, {})[0] == 200
        ended = _until(service, token, at, sites, lambda now: now["state"] not in ("inviting", "running"), tmp_path)
        assert ended["state"] == "completed", ended
        assert ended["rounds"] == ROUNDS, ended
        assert [site.wait(60) for site in sites] == [0] * 4
    finally:
        for site in sites:
            site.kill()
            site.wait()
    assert all((tmp_path / name / "results" / "index.html").is_file() for name in names)
    status, result = _request(service, "GET", f"{at}/rounds/{ended['step']}/result", token)
    assert status == 200, result
    assert result["message"]["model_digest"] == _simulated(tmp_path)


def _accepted(service, token, at):
    members = _request(service, "GET", f"{at}/members", token)[1]["items"]
    return sum(one["state"] == "accepted" for one in members if one["role"] == "site")


def _until(service, token, at, sites, done, folder, seconds=420):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status, run = _request(service, "GET", at, token)
        assert status == 200, run
        if done(run):
            return run
        fallen = [site.returncode for site in sites if site.poll()]
        assert not fallen, [(folder / f"local{index}.log").read_text()[-3000:] for index in range(4)]
        time.sleep(0.5)
    raise AssertionError(f"{run['state']} at step {run.get('step')} after {seconds} s")


def _simulated(folder):
    """Return the digest of the same run on one machine, over COINSTAC's own protocol."""
    inputs = [{name: {"value": value} for name, value in {**SETTINGS, "data": ["site.db"]}.items()}] * 4
    (folder / "inputspec.json").write_text(json.dumps(inputs))
    for index in range(4):
        (folder / "input" / f"local{index}" / "simulatorRun").mkdir(parents=True)
        shutil.copy(folder / "made" / f"local{index}.db", folder / "input" / f"local{index}" / "simulatorRun/site.db")
    words = ["simulate", str(folder / "inputspec.json"), "--output", str(folder / "simulated")]
    subprocess.run(
        [sys.executable, "-m", "computation.cli", *words, "--input", str(folder / "input")],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(Layout(folder / "simulated").summary.read_text())["model_digest"]


def test_all_of_it_goes_again(service, terraform, variables):
    terraform.run("destroy", "-auto-approve", *variables)
    client = service.emulator.client
    assert client("lambda").list_functions()["Functions"] == []
    assert client("s3").list_buckets()["Buckets"] == []
    assert client("dynamodb").list_tables()["TableNames"] == []
    assert client("apigatewayv2").get_apis()["Items"] == []
    assert client("sqs").list_queues().get("QueueUrls", []) == []
    assert client("cognito-idp").list_user_pools(MaxResults=5)["UserPools"] == []
    assert client("iam").list_roles()["Roles"] == []
    assert client("logs").describe_log_groups()["logGroups"] == []
