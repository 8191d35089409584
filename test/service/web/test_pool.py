"""The API where a user pool says who asks: the pool's tokens count, and nothing else does."""

import json
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from service.identity.cognito import Cognito
from service.web.app import application

#: Nothing here depends on the store.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abcdefghi"


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def pool(house, key):
    house.down = False

    def fetch():
        if house.down:
            raise OSError("no route")
        return json.dumps({"keys": [{**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1"}]}).encode()

    cognito = Cognito(POOL, ["app"], "service/site", fetch, house.clock)
    house.app = application(replace(house.served, verifier=cognito, local=None, longest_wait=0), streams=False)
    return house


def token(house, key, **changes):
    now = house.clock.now // 1000
    claims = {
        "sub": house.subjects["carl"], "iss": POOL, "client_id": "app", "token_use": "access", "iat": now,
        "exp": now + 900, "cognito:groups": ["coordinator"], "username": "carl",
    }  # fmt: skip
    return jwt.encode({**claims, **changes}, key, "RS256", headers={"kid": "k1"})


def test_the_pools_tokens_count(pool, key):
    carl = pool.client(token(pool, key))
    assert carl.get("/v1/me").json()["roles"] == ["coordinator"]
    made = carl.post("/v1/runs", pool.spec())
    assert made.status_code == 201 and made.json()["owner"] == pool.subjects["carl"]
    assert pool.client(token(pool, key, **{"cognito:groups": []})).post("/v1/runs", pool.spec()).status_code == 403
    other = pool.client(token(pool, key, sub="other", email="carl@example.org"))
    assert other.get(f"/v1/runs/{made.json()['id']}").status_code == 404


def test_nothing_else_counts(pool, key):
    other = rsa.generate_private_key(65537, 2048)
    wrong = [
        token(pool, other), token(pool, key, token_use="id"), token(pool, key, client_id="another"),
        token(pool, key, iss=POOL + "x"), token(pool, key, exp=1), token(pool, key)[:-2], pool.tokens["carl"],
        jwt.encode({"sub": "x"}, None, "none", headers={"kid": "k1"}),
    ]  # fmt: skip
    answers = [pool.client(one).get("/v1/me") for one in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_a_pool_that_is_down_is_503_and_not_401(pool, key):
    pool.down = True
    answer = pool.client(token(pool, key)).get("/v1/me")
    assert answer.status_code == 503 and answer.headers["retry-after"]


def test_what_only_a_service_with_accounts_can_do_is_not_there(pool, key):
    carl = pool.client(token(pool, key))
    for path in ("/v1/auth/login", "/v1/auth/refresh", "/v1/accounts"):
        assert carl.post(path, {}, checked=False).status_code == 404
    assert "/v1/auth/login" not in carl.get("/v1/openapi.json").json()["paths"]
