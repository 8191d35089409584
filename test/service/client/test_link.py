"""What comes from a service is bounded, asked again where it failed, and never believed; tokens are had anew."""

import gzip
import random
import socket
import time

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from scripted import scripted

from computation.errors import IdentityError, MessageError, ServiceError
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.link import Link, Refused
from service.client.replies import Linked, Signed

TOKEN = "mnc_planted"


@pytest.fixture
def server():
    with scripted() as made:
        yield made


def link(server, *, credentials=None, patience=0.5, told=lambda text: None, load=None):
    address = Address.parse(server.url)
    bearer = Bearer(address, load or (lambda: credentials or Credentials(token=TOKEN)))
    return Link(address, bearer, lambda: Backoff(random.Random(0), patience, first=0.01), told)


def bearers(server, path):
    return [headers.get("Authorization") for _, at, headers, _ in server.seen if at.split("?")[0] == path]


def test_an_answer_and_who_asked(server):
    server.on("/v1/x", (200, {}, {"a": 1}))
    assert link(server).get("/v1/x", after="b c") == {"a": 1}
    method, path, headers, _ = server.seen[0]
    assert (method, path, headers["Authorization"]) == ("GET", "/v1/x?after=b+c", f"Bearer {TOKEN}")
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_what_fails_now_is_asked_again(server, status):
    said = []
    server.on("/v1/x", (status, {}, b"<html>"), (status, {"Retry-After": "0.05"}, b""), (200, {}, {"a": 1}))
    assert link(server, told=said.append).get("/v1/x") == {"a": 1}
    assert said == [f"the service says {status}; asking again", "the service answers again"]


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def half(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


@pytest.mark.parametrize("failure", [hang_up, half])
def test_a_lost_connection_is_asked_again(server, failure):
    server.on("/v1/x", failure, failure, (200, {}, {"a": 1}))
    assert link(server).post("/v1/x", {"b": 2}) == {"a": 1}
    assert [body for *_, body in server.seen] == [b'{"b":2}'] * 3


def test_patience_ends_with_a_sentence(server):
    server.on("/v1/x", (503, {"Retry-After": "1e9"}, b""))
    began = time.monotonic()
    with pytest.raises(ServiceError, match="start again later: nothing is lost"):
        link(server, patience=0.3).get("/v1/x")
    assert time.monotonic() - began < 10
    with pytest.raises(ServiceError, match="cannot be reached"):
        Link(Address.parse("http://127.0.0.1:1"), link(server)._bearer, lambda: Backoff(random.Random(0), 0.2)).get("/")


def test_a_refusal_has_its_word_and_its_sentence(server):
    problem = {"code": "round_closed", "detail": "step 3 is closed", "details": {"step": 4}}
    server.on("/v1/x", (409, {"Content-Type": "application/problem+json"}, problem))
    with pytest.raises(Refused, match="step 3 is closed") as caught:
        link(server).post("/v1/x")
    assert (caught.value.status, caught.value.code, caught.value.detail) == (409, "round_closed", {"step": 4})


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[1]", {"code": 7, "detail": ["x"]}, {"code": "x" * 100, "detail": "two\nlines"}, b"\xff\xfe"],
)
def test_a_refusal_of_no_form_is_still_one(server, body):
    server.on("/v1/x", (422, {}, body))
    with pytest.raises(Refused, match=r"refused a request \(status 422\)") as caught:
        link(server).get("/v1/x")
    assert caught.value.code == ""


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 10_000, b'{"a": 1e999}']
)
def test_an_answer_that_is_no_object_is_refused(server, body):
    server.on("/v1/x", (200, {}, body))
    with pytest.raises(ServiceError, match="no JSON object"):
        link(server).get("/v1/x")


def test_an_answer_without_end_is_cut_off(server):
    def endless(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except OSError:
            pass

    server.on("/v1/x", endless)
    with pytest.raises(ServiceError, match="more than"):
        link(server).get("/v1/x")
    with pytest.raises(ServiceError, match="more than 8 bytes"):
        link(server).fetch("/v1/x", {}, 8)


def test_a_compressed_answer_is_not_unpacked(server):
    server.on("/v1/x", (200, {"Content-Encoding": "gzip"}, gzip.compress(b"0" * 10_000)))
    with pytest.raises(ServiceError, match="compressed"):
        link(server).get("/v1/x")


def test_nobody_is_followed_elsewhere(server):
    server.on("/v1/x", (307, {"Location": "/v1/y"}, b""))
    server.on("/v1/y", (200, {}, {}))
    with pytest.raises(Refused, match="307"):
        link(server).get("/v1/x")
    assert len(server.seen) == 1


def test_files_go_and_come_without_the_token(server):
    server.on("/blob", (200, {}, b"content"))
    made = link(server)
    assert made.fetch("/blob?sig=1", {}, 7) == b"content"
    assert made.put(f"{server.url}/blob?sig=2", {"If-None-Match": "*"}, b"mine") == 200
    assert bearers(server, "/blob") == [None, None]
    assert server.seen[1][3] == b"mine" and server.seen[1][2]["If-None-Match"] == "*"
    server.on("/blob", (403, {}, b"<Error>"))
    assert made.put("/blob", {}, b"mine") == 403
    with pytest.raises(Refused, match="403"):
        made.fetch("/blob", {}, 7)


def test_a_file_that_was_altered_is_refused():
    file = Linked("__cx_a.bin", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", Signed("/x"))
    assert file.checked(b"abc") == b"abc"
    for content in (b"abd", b"ab", b"abcd"):
        with pytest.raises(MessageError, match="not the one that the service announced"):
            file.checked(content)


def test_a_credential_that_was_revoked_ends_it_unless_there_is_a_new_one(server):
    server.on("/v1/x", (401, {}, b""))
    with pytest.raises(IdentityError, match="have new ones made"):
        link(server).get("/v1/x")
    server.on("/v1/x", (401, {}, b""), (200, {}, {}))
    held = [Credentials(token="mnc_old"), Credentials(token="mnc_new")]
    link(server, load=lambda: held.pop(0)).get("/v1/x")
    assert bearers(server, "/v1/x")[-2:] == ["Bearer mnc_old", "Bearer mnc_new"]


def test_a_session_is_renewed_overnight(server):
    server.on("/v1/auth/refresh", *((200, {}, {"access": f"mna_{n}", "until": 0}) for n in range(3)))
    server.on("/v1/x", (200, {}, {}), (401, {}, b""), (200, {}, {}))
    made = link(server, credentials=Credentials(refresh="mnr_planted"))
    made.get("/v1/x")
    made.get("/v1/x")
    assert bearers(server, "/v1/x") == ["Bearer mna_0", "Bearer mna_0", "Bearer mna_1"]
    made._bearer._clock = lambda: time.monotonic() + 250
    made.get("/v1/x")
    assert bearers(server, "/v1/x")[-1] == "Bearer mna_2"
    assert all(path == "/v1/auth/refresh" or b"planted" not in body for _, path, _, body in server.seen)


def test_a_user_pool_is_asked_for_tokens(server):
    result = {"AuthenticationResult": {"AccessToken": "ey.planted", "ExpiresIn": 3600, "IdToken": "no"}}
    server.on("/", (500, {}, b""), (200, {}, result))
    server.on("/v1/x", (200, {}, {}))
    for held, flow in (
        (Credentials(sign_in=server.url, client="c", refresh="r"), b"REFRESH_TOKEN_AUTH"),
        (Credentials(sign_in=server.url, client="c", username="u", password="p"), b"USER_PASSWORD_AUTH"),
    ):
        link(server, credentials=held).get("/v1/x")
        assert bearers(server, "/v1/x")[-1] == "Bearer ey.planted"
        asked = [one for one in server.seen if one[1] == "/"][-1]
        assert flow in asked[3] and asked[2]["X-Amz-Target"].endswith("InitiateAuth")


@pytest.mark.parametrize(
    ("challenge", "told"),
    [("NEW_PASSWORD_REQUIRED", "temporary"), ("SOFTWARE_TOKEN_MFA", "second factor"), ("MFA_SETUP", "second factor")],
)
def test_what_a_user_pool_asks_of_people_is_told(server, challenge, told):
    server.on("/", (200, {}, {"ChallengeName": challenge, "Session": "planted", "ChallengeParameters": {}}))
    held = Credentials(sign_in=server.url, client="c", username="u", password="p")
    with pytest.raises(IdentityError, match=told) as caught:
        link(server, credentials=held).get("/v1/x")
    assert "planted" not in str(caught.value) and not bearers(server, "/v1/x")


@pytest.mark.parametrize(
    "answer",
    [(400, {}, b"{}"), (200, {}, b"[]"), (200, {}, {"access": "a\r\nX: 1"}), (200, {}, b"0" * 100_000)],
    ids=["refused", "nothing", "two headers", "long"],
)
def test_who_makes_no_token_is_told(server, answer):
    server.on("/v1/auth/refresh", answer)
    with pytest.raises(IdentityError) as caught:
        link(server, credentials=Credentials(refresh="mnr_planted")).get("/v1/x")
    assert "planted" not in str(caught.value)
    assert not bearers(server, "/v1/x")


def test_credentials_for_another_service_are_not_shown_to_this_one(server):
    with pytest.raises(IdentityError, match="another service"):
        link(server, credentials=Credentials(server="https://centre.example", token=TOKEN))
    assert not server.seen
