"""Tokens of a user pool: the right one, and every way in which one can be wrong."""

import base64
import hashlib
import hmac
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from computation.errors import IdentityError, ServiceError
from service.identity.cognito import Cognito
from service.identity.keys import fetched

POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abcdefghi"
DROP = object()


def _pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip


def _jwk(key, kid, **rest):
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256", "use": "sig", **rest}


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def other_key():
    return rsa.generate_private_key(65537, 2048)


class Pool:
    """A user pool that signs tokens and counts how often its keys are fetched."""

    def __init__(self, key, clock):
        self.key, self.clock, self.fetches, self.down = key, clock, 0, False
        self.keys = [_jwk(key, "k1")]

    def fetch(self):
        self.fetches += 1
        if self.down:
            raise OSError("no route")
        return json.dumps({"keys": self.keys}).encode()

    def claims(self, **changes):
        now = self.clock.now // 1000
        usual = {
            "sub": "7a1c", "iss": POOL, "client_id": "app", "token_use": "access", "username": "north", "iat": now,
            "exp": now + 900, "cognito:groups": ["site", "viewer", "staff"], "scope": "aws.cognito.signin.user.admin",
        }  # fmt: skip
        return {name: value for name, value in {**usual, **changes}.items() if value is not DROP}

    def token(self, key=None, kid="k1", headers=(), **changes):
        return jwt.encode(self.claims(**changes), key or self.key, "RS256", headers={"kid": kid, **dict(headers)})


@pytest.fixture
def pool(key, clock):
    return Pool(key, clock)


@pytest.fixture
def cognito(pool, clock):
    return Cognito(POOL, ["app", "machine"], "service/site", pool.fetch, clock)


def refused(cognito, token):
    with pytest.raises(IdentityError) as error:
        cognito.verify(token)
    return str(error.value)


def test_an_access_token_says_who_it_is(cognito, pool, clock):
    one = cognito.verify(pool.token())
    assert (one.sub, one.name, one.roles) == ("7a1c", "north", {"site", "viewer"})
    assert one.since == clock.now // 1000 * 1000 and pool.fetches == 1


WRONG = {
    "another issuer, same key": {"iss": POOL.replace("abcdefghi", "zzzzzzzzz")},
    "an issuer that begins like ours": {"iss": POOL + "/"},
    "no issuer": {"iss": DROP},
    "another client": {"client_id": "another"},
    "no client": {"client_id": DROP},
    "a client that is a list": {"client_id": ["app"]},
    "an ID token": {"token_use": "id", "aud": "app", "client_id": DROP},
    "an ID token with a client": {"token_use": "id"},
    "no use": {"token_use": DROP},
    "no expiry": {"exp": DROP},
    "an expiry in words": {"exp": "tomorrow"},
    "an endless expiry": {"exp": True},
    "no time of issue": {"iat": DROP},
    "a time of issue before all": {"iat": -1e308},
    "no subject": {"sub": DROP},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject that is a list": {"sub": ["7a1c"]},
    "a subject without end": {"sub": "x" * 129},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_token_with_wrong_claims_is_refused(cognito, pool, changes):
    assert refused(cognito, pool.token(**changes))


def test_times_are_those_of_the_service_with_a_minutes_leeway_for_beginnings_alone(cognito, pool, clock):
    now = clock.now // 1000
    assert cognito.verify(pool.token(nbf=now + 59, iat=now + 59))
    assert refused(cognito, pool.token(nbf=now + 61))
    assert refused(cognito, pool.token(iat=now + 61))
    assert refused(cognito, pool.token(exp=now))
    good = pool.token(exp=now + 900)
    clock.forward(899)
    assert cognito.verify(good)
    clock.forward(1)
    assert refused(cognito, good)


def _b64(raw):
    return base64.urlsafe_b64encode(raw if isinstance(raw, bytes) else json.dumps(raw).encode()).rstrip(b"=").decode()


def _forged(header, claims, sign=lambda _: b""):
    text = f"{_b64(header)}.{_b64(claims)}"
    return f"{text}.{_b64(sign(text.encode()))}"


class _Secret(bytes):
    def __call__(self, text):
        return hmac.new(self, text, hashlib.sha256).digest()


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_that_nobody_signed_is_refused(cognito, pool, algorithm):
    assert refused(cognito, _forged({"alg": algorithm, "kid": "k1"}, pool.claims()))
    assert refused(cognito, _forged({"kid": "k1"}, pool.claims()))


def test_the_public_key_is_no_shared_secret(cognito, pool, key):
    cognito.verify(pool.token())
    for secret in (_pem(key), json.dumps(pool.keys[0]).encode(), pool.keys[0]["n"].encode()):
        assert refused(cognito, _forged({"alg": "HS256", "kid": "k1"}, pool.claims(), _Secret(secret)))


def test_another_algorithm_is_refused_although_the_key_is_right(cognito, pool, key):
    for algorithm in ("RS384", "RS512", "PS256"):
        assert refused(cognito, jwt.encode(pool.claims(), key, algorithm, headers={"kid": "k1"}))
    curve = ec.generate_private_key(ec.SECP256R1())
    pool.keys.append({**ECAlgorithm.to_jwk(curve.public_key(), as_dict=True), "kid": "k2", "use": "sig"})
    assert refused(cognito, jwt.encode(pool.claims(), curve, "ES256", headers={"kid": "k2"}))


def test_another_key_is_refused_wherever_the_token_says_that_it_lies(cognito, pool, other_key):
    assert refused(cognito, pool.token(key=other_key))
    lies = {"jwk": _jwk(other_key, "k1"), "jku": "https://evil.example/keys", "x5u": "https://evil.example/x"}
    for name, value in lies.items():
        assert refused(cognito, pool.token(key=other_key, headers={name: value}))
    assert pool.fetches == 1


def test_an_altered_token_is_refused(cognito, pool):
    header, claims, signature = pool.token().split(".")
    more = _b64(pool.claims(**{"cognito:groups": ["administrator"]}))
    for token in (
        f"{header}.{more}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}",
        f"{header}..{signature}",
    ):
        assert refused(cognito, token)
    assert refused(cognito, f"{header}.{claims}.{signature[:-4]}AAAA")


def test_what_is_no_token_is_refused_with_the_same_text(cognito, pool):
    deep = _b64(b'{"alg":"RS256","kid":"k1","a":' + b"[" * 3000 + b"]" * 3000 + b"}")
    texts = {
        refused(cognito, token)
        for token in (
            "", ".", "..", "...", "a.b.c", "x" * 100_000, "\0", "é.é.é", "\ud800", f"{deep}.e30.e30", "e30.e30.e30",
            _forged({"alg": "RS256", "kid": 7}, {}), _forged({"alg": "RS256", "kid": "k1", "crit": ["b64"]}, {}),
            _forged([], []), _forged("x", "y"), pool.token(more="x" * 9000), "mna_" + "A" * 43,
            _forged({"alg": ["RS256"], "kid": "k1"}, {}), _forged({"alg": "RS256", "kid": "../../k1"}, {}),
        )
    }  # fmt: skip
    assert len(texts) == 1


def test_a_signed_text_that_is_no_object_is_refused(cognito, pool, key):
    for claims in (b"[]", b'"x"', b"\xff", b"{", b"null"):
        token = jwt.PyJWS().encode(claims, key, "RS256", headers={"kid": "k1"})
        assert refused(cognito, token)


def test_a_critical_header_is_refused_although_the_pool_signed_it(cognito, pool):
    assert refused(cognito, pool.token(headers={"crit": ["exp"]}))


def test_a_flood_of_unknown_keys_asks_the_pool_twice_a_minute(cognito, pool, clock):
    for number in range(500):
        assert refused(cognito, pool.token(kid=f"invented{number}"))
    assert pool.fetches == 1
    assert cognito.verify(pool.token())
    clock.forward(31)
    for number in range(500):
        assert refused(cognito, pool.token(kid=f"invented{number}"))
    assert pool.fetches == 2


def test_a_pool_that_changes_its_keys_is_followed(cognito, pool, clock, other_key):
    assert cognito.verify(pool.token())
    clock.forward(60)
    pool.keys = [_jwk(other_key, "k2")]
    assert cognito.verify(pool.token(key=other_key, kid="k2"))
    assert refused(cognito, pool.token())
    assert pool.fetches == 2


def test_a_key_that_is_taken_away_counts_for_an_hour_at_most(cognito, pool, clock, other_key):
    assert cognito.verify(pool.token())
    pool.keys = [_jwk(other_key, "k2")]
    clock.forward(3601)
    assert refused(cognito, pool.token())


def test_a_pool_that_is_down_is_no_ones_fault_and_known_keys_last_a_day(cognito, pool, clock):
    pool.down = True
    with pytest.raises(ServiceError) as failed:
        cognito.verify(pool.token())
    assert not isinstance(failed.value, IdentityError)
    pool.down = False
    clock.forward(31)
    assert cognito.verify(pool.token())
    pool.down = True
    clock.forward(7200)
    assert cognito.verify(pool.token())
    clock.forward(86_400)
    with pytest.raises(ServiceError):
        cognito.verify(pool.token())


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}', b"\xff", b'{"keys": [{"kid": "k1", "kty": "RSA"}]}'],
    ids=repr,
)
def test_a_set_of_keys_that_is_none_lets_nobody_in(pool, clock, content):
    with pytest.raises(ServiceError):
        Cognito(POOL, ["app"], fetch=lambda: content, clock=clock).verify(pool.token())


@pytest.mark.filterwarnings("ignore:The RSA key is 1024")
def test_short_keys_and_keys_for_another_use_do_not_count(cognito, pool):
    short = rsa.generate_private_key(65537, 1024)
    pool.keys = [_jwk(pool.key, "k1", use="enc"), _jwk(pool.key, "k3", alg="RS512")]
    assert refused(cognito, pool.token())
    pool.keys = [_jwk(short, "k1")]
    with pytest.raises(ServiceError):
        Cognito(POOL, ["app"], fetch=pool.fetch, clock=pool.clock).verify(pool.token(key=short))


def test_many_threads_fetch_once(cognito, pool):
    barrier = threading.Barrier(8)

    def verify(_):
        barrier.wait()
        return cognito.verify(pool.token()).sub

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(verify, range(8))) == {"7a1c"}
    assert pool.fetches == 1


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"cognito:groups": DROP}, set()),
        ({"cognito:groups": "administrator"}, set()),
        ({"cognito:groups": {"administrator": 1}}, set()),
        ({"cognito:groups": ["Administrator", ["site"], None, "coordinator"]}, {"coordinator"}),
        ({"sub": "machine", "client_id": "machine", "scope": "a/b service/site"}, {"site"}),
        ({"sub": "machine", "client_id": "machine", "scope": "service/sites"}, set()),
        ({"sub": "machine", "client_id": "machine", "scope": ["service/site"]}, set()),
        # A user can ask its browser's client for any scope that this has.
        ({"scope": "service/site", "cognito:groups": ["viewer"]}, {"viewer"}),
    ],
)
def test_roles_come_from_groups_and_a_machines_from_its_scope(cognito, pool, changes, roles):
    one = cognito.verify(pool.token(**changes))
    assert one.roles == roles and one.machine == (one.sub == "machine")


def test_a_name_that_is_none_is_left_out_and_never_says_who_it_is(cognito, pool):
    for name in (DROP, 7, "x" * 200, "a\nb"):
        one = cognito.verify(pool.token(username=name))
        assert (one.sub, one.name) == ("7a1c", "")


def test_a_changed_email_changes_nobody(cognito, pool):
    one = cognito.verify(pool.token(email="north@example.org", email_verified=True))
    other = cognito.verify(pool.token(sub="8b2d", email="north@example.org", username="north"))
    assert one.sub != other.sub


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/keys": b"{}", "/large": b" " * 70_000}.get(self.path, b"")
        self.send_response(302 if self.path == "/moved" else 200 if body else 404)
        self.send_header("Location", "/keys")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_keys_are_fetched_from_where_they_are_and_nowhere_else(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    assert fetched(f"{at}/keys") == b"{}"
    (tmp_path / "keys").write_text("{}")
    for url in (f"{at}/moved", f"{at}/large", f"{at}/missing", (tmp_path / "keys").as_uri(), "keys", "ftp://x/keys"):
        with pytest.raises(OSError):
            fetched(url)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError):
        fetched(f"{at}/keys", 1)
