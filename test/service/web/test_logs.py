"""The log says which request went how, and nothing that somebody sent or is."""

import logging
import re

import pytest

from service.web.answering import LOG

LINE = re.compile(
    r"request=[0-9a-f-]{36} method=([A-Z]{3,7}|\?) route=(\?|/[a-z0-9/{}._]*) status=\d{3} ms=\d+"
    r"( why=[A-Za-z0-9_@:.<>-]+)?"
)
SECRET = "sesame-0pen"

#: Nothing here depends on the store.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOG.name]


def _everything(house, tmp_path):
    """Ask for everything, with a secret wherever something can be said."""
    carl, ada, nobody = house.client("carl"), house.client("ada"), house.client()
    nobody.post("/v1/auth/login", {"name": SECRET, "password": SECRET})
    nobody.post("/v1/auth/login", {"name": "carl", "password": SECRET + SECRET})
    given = nobody.post("/v1/auth/login", {"name": "carl", "password": "correct horse battery"}).json()
    nobody.post("/v1/auth/refresh", {"refresh": given["refresh"]})
    made = ada.post("/v1/accounts", {"name": SECRET, "roles": ["site"], "password": SECRET * 2}).json()
    token = ada.post(f"/v1/accounts/{made['subject']}/credentials", {"label": SECRET}).json()["token"]
    ada.get(f"/v1/accounts/{SECRET}/credentials")
    run = carl.post("/v1/runs", house.spec(description=SECRET), headers={"Idempotency-Key": SECRET}).json()
    carl.post(f"/v1/runs/{run['id']}/invite")
    carl.post("/v1/runs", {SECRET: 1})
    carl.get(f"/v1/runs/{SECRET}?{SECRET}={SECRET}")
    carl.get(f"/{SECRET}")
    carl("SESAME", f"/v1/runs/{SECRET}")
    house.client(SECRET).get("/v1/me", headers={"X-Request-Id": SECRET, "User-Agent": SECRET})
    told = {"name": "__cx_initial.bin", "size": 3, "sha256": "0" * 64}
    north = house.client("north")
    send = north.post(f"/v1/runs/{run['id']}/rounds/0/uploads", told).json()["send"]
    north("PUT", send["url"], content=SECRET.encode(), checked=False)
    north("PUT", send["url"].replace("sha256=", f"{SECRET}="), content=b"abc", checked=False)
    house.client(token).post(f"/v1/runs/{run['id']}/leave", {"why": SECRET})
    return [
        SECRET, "SESAME", "correct horse", given["access"], given["refresh"], token, run["id"], send["url"],
        send["url"].rpartition("signature=")[2], str(tmp_path), *house.tokens.values(), *house.subjects.values(),
        *house.subjects, "mna_", "mnr_", "mnc_", "argon2",
    ]  # fmt: skip


def test_nothing_that_was_sent_is_in_the_log(house, lines, caplog, tmp_path):
    secrets = _everything(house, tmp_path)
    assert len(lines()) > 15 and all(LINE.fullmatch(line) for line in lines()), lines()
    ours = [record for record in caplog.records if record.name.startswith("service")]
    logged = "\n".join(record.getMessage() + str(record.exc_info or "") for record in ours)
    logged = re.sub(r"request=[0-9a-f-]{36}", "", logged)  # drawn, and "ada" is hexadecimal
    assert not [secret for secret in secrets if secret in logged.replace("carl", "") and secret != "carl"]


def test_a_failure_is_placed_and_not_quoted(house, lines, monkeypatch):
    def broken(*_):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(type(house.desk.store), "run", broken)
    answer = house.client("carl").get("/v1/runs/01a31887-6358-700f-8042-fcd126a9e189")
    assert answer.status_code == 500
    assert len(lines()) == 1 and LINE.fullmatch(lines()[0]) and SECRET not in lines()[0]
    assert "RuntimeError@" in lines()[0] and "test_logs.py" in lines()[0] and answer.json()["request"] in lines()[0]
