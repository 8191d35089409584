"""Proxies and certificates as machines name them: what cannot be is one sentence, and what fails says of what."""

import random
import ssl
from contextlib import contextmanager

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

import httpx
from certified import certified
from scripted import scripted

from computation.errors import ServiceError
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.link import Link
from service.client.way import way

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
CENTRE = httpx.URL("https://centre.example/v1/runs")


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def tls(path):
    with scripted() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        server.wrap(context)
        server.on("/v1/x", (200, {}, {"a": 1}))
        yield server


def link(url, told=lambda text: None, token="mnc_a", **held):
    address = Address.parse(url)
    bearer = Bearer(address, lambda: Credentials(**held or {"token": token}))
    return Link(address, bearer, lambda: Backoff(random.Random(0), 0.1, first=0.01), told)


def told(url, **held):
    said = []
    with pytest.raises(ServiceError, match="start again later"):
        link(url, said.append, **held).get("/v1/x")
    return said[0]


def test_a_certificate_of_ones_own_is_trusted_where_the_machine_names_it(tmp_path, monkeypatch):
    with tls(path := certified(tmp_path)) as server:
        said = told(server.url)
        assert "its certificate is not trusted here: self" in said and "SSL_CERT_FILE" in said
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert link(server.url).get("/v1/x") == {"a": 1}


@pytest.mark.parametrize(("changes", "why"), [({"days": -1}, "expired"), ({"name": "127.0.0.2"}, "mismatch")])
def test_a_certificate_that_cannot_be_says_why_and_is_no_matter_of_trust(tmp_path, monkeypatch, changes, why):
    with tls(path := certified(tmp_path, **changes)) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        said = told(server.url)
        assert why in said and "SSL_CERT_FILE" not in said


def test_what_is_not_there_and_what_has_no_tls_says_so():
    with scripted() as server:
        assert "does not speak TLS" in told(server.url.replace("http:", "https:"))
    assert "nothing listens there" in told(server.url)


@pytest.mark.parametrize("proxy", ["socks9://127.0.0.1:1", "ftp://127.0.0.1:1", "http://proxy:port", "http://[::1"])
@pytest.mark.parametrize("name", ["https_proxy", "all_proxy"])
def test_a_proxy_that_is_none_is_one_sentence(monkeypatch, name, proxy):
    monkeypatch.setenv(name, proxy)
    with pytest.raises(ServiceError, match="wanted http://HOST:PORT in HTTPS_PROXY"):
        way(CENTRE, local=False)
    way(CENTRE, local=True).close()


@pytest.mark.parametrize("given", [{"token": "mnc_a"}, {"refresh": "mnr_a"}])
def test_hosts_without_a_proxy_may_be_named_in_any_form(monkeypatch, given):
    """What asks for tokens read it in another way: an address of IPv6 among them ended it with another error."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "[::1],10.0.0.0/8,*.local,,localhost")
    assert "cannot be reached" in told("https://centre.example", **given)


def test_certificates_that_are_none_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "empty.pem", tmp_path / "missing.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(ServiceError, match="SSL_CERT_FILE"):
            way(CENTRE, local=False)
