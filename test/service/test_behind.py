"""Behind a proxy: what it says is believed, and nobody comes past it."""

import asyncio
import re

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

import httpx
from houses import SOUND
from offices import Office, stamp_of

from computation.errors import ServiceError
from service.behind import Behind, networks
from service.blobs.files import Files
from service.cases.desk import Desk
from service.store.memory import MemoryStore

PROXY = "10.0.0.2"


@pytest.fixture
def office(tmp_path):
    made = Office(Desk(MemoryStore(), Files(tmp_path / "files")), tmp_path, secure=True)
    yield made
    made.local.records.close()


class Way:
    """A browser that reaches the service from one address."""

    def __init__(self, app, peer, proxies=PROXY, **headers):
        self.app, self.peer, self.headers, self.cookies = Behind(app, proxies), peer, headers, httpx.Cookies()

    def ask(self, method, path, **rest):
        async def one():
            transport = httpx.ASGITransport(self.app, client=(self.peer, 4711))
            told = {"transport": transport, "base_url": "https://centre.example", "cookies": self.cookies}
            async with httpx.AsyncClient(headers=self.headers, **told) as client:
                answer = await client.request(method, path, **rest)
                self.cookies = client.cookies
                return answer

        return asyncio.run(one())

    def login(self, name, password=SOUND):
        stamp = stamp_of(self.ask("GET", "/login").text)
        return self.ask("POST", "/login", data={"stamp": stamp, "name": name, "password": password})


@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}"])
@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}])
def test_what_pages_show_is_reached_by_tls_whatever_the_proxy_says(office, peer, headers):
    run, way = office.make(), Way(office.app, peer, **headers)
    assert way.login("north").status_code == 303
    page = way.ask("GET", "/invitations").text
    assert f"join https://centre.example --run {run.id}" in re.sub("<[^>]+>", "", page)


def test_who_guesses_waits_and_nobody_else_behind_the_proxy_does(office):
    guesses = Way(office.app, PROXY, **{"X-Forwarded-For": "198.51.100.1"})
    assert [guesses.login("ada", "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert guesses.login("ada").status_code == 429
    # Whoever says that another has sent it is the one whom the proxy has seen, which comes last.
    claims = Way(office.app, PROXY, **{"X-Forwarded-For": "203.0.113.9, 198.51.100.1"})
    assert claims.login("ada").status_code == 429
    assert Way(office.app, PROXY, **{"X-Forwarded-For": "198.51.100.2"}).login("ada").status_code == 303


@pytest.mark.parametrize("peer", ["10.0.0.3", "::ffff:10.0.0.3", "fd00::2", "testclient", ""])
def test_nobody_comes_past_the_proxy(office, peer):
    past = Way(office.app, peer, **{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"})
    for path in ("/login", "/v1/runs", "/v1/auth/login", "/static/x/y"):
        answer = past.ask("GET", path)
        assert answer.status_code == 421 and "--behind-proxy" in answer.json()["detail"]
        assert answer.headers["X-Request-Id"]
    assert past.ask("GET", "/healthz").json() == {"status": "ok"}


def test_this_machine_itself_may_ask(office):
    assert Way(office.app, "127.0.0.1").ask("GET", "/login").status_code == 200
    assert Way(office.app, "::1").ask("GET", "/login").status_code == 200


@pytest.mark.parametrize("text", ["10.0.0.2,172.18.0.0/16", " fd00::/8 , 10.0.0.2 "])
def test_several_proxies_and_networks_may_be_named(office, text):
    assert len(networks(text)) == 2
    assert Way(office.app, PROXY, text).ask("GET", "/login").status_code == 200


@pytest.mark.parametrize(
    "text", ["localhost", "*", "https://proxy.example", "10.0.0.2:8000", "10.0.0.2;", "10.0.0.2/8"]
)
def test_what_no_connection_comes_from_is_refused(text):
    with pytest.raises(ServiceError, match="from which the proxy connects"):
        networks(text)
