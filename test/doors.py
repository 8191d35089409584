"""A user pool of this process: pages at which people sign in, tokens with real signatures, over real HTTP."""

import base64
import hashlib
import html
import json
import secrets
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from offices import Browser

from service.identity.cognito import Cognito
from service.identity.hosted import Door, Hosted
from service.identity.keys import fetched
from service.identity.records import Account
from service.web.app import application
from service.web.dashboard import Front, routes
from service.web.dashboard.hosted import CALLBACK, LEFT
from service.web.dashboard.tabs import of_runs
from service.web.served import Served

POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abcdefghi"
GROUPS = {"carl": ["coordinator"], "ada": ["administrator"], "north": ["site"], "south": ["site"], "vera": ["viewer"]}


@cache
def made_key():
    return rsa.generate_private_key(65537, 2048)


class Pool:
    """Signs whoever `user` names in, as Cognito's pages do once the password was right.

    What a test changes: `user`, `groups`; `changes`, claims by the token's use; `down`, a status for every request of
    tokens; `key`, with which it signs.
    """

    def __init__(self, clock, client="pages", back="", after=""):
        self.clock, self.client, self.back, self.after = clock, client, back, after
        self.user, self.groups, self.key, self.changes, self.down = "carl", dict(GROUPS), made_key(), {}, 0
        self.codes, self.renewing, self.revoked, self.asked = {}, {}, [], []
        pool = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(*pool.got(urlsplit(self.path)))

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer(*pool.posted(self.path, plain(content)))

            def answer(self, status, text=""):
                """Answer with a text, or send the browser there."""
                self.send_response(status)
                self.send_header("Location" if status == 302 else "X-Pool", text if status == 302 else "1")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def got(self, url):
        asked = plain(url.query)
        if url.path == "/keys":
            one = {**RSAAlgorithm.to_jwk(made_key().public_key(), as_dict=True), "kid": "k1"}
            return 200, json.dumps({"keys": [one]})
        if asked.get("client_id") != self.client:
            return 400, "another client"
        if url.path == "/logout":
            return (302, self.after) if asked.get("logout_uri") == self.after else (400, "another address")
        if url.path != "/oauth2/authorize" or asked.get("redirect_uri") != self.back:
            return 400, "another address"
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            return 400, "no code, or no challenge"
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "user": self.user}
        return 302, f"{self.back}?{urlencode({'code': code, 'state': asked['state']})}"

    def posted(self, path, form):
        self.asked.append((path, form))
        if self.down:
            return self.down, "not now"
        if form.get("client_id") != self.client:
            return 400, '{"error":"invalid_client"}'
        if path == "/oauth2/revoke":
            self.revoked.append(form["token"])
            self.renewing.pop(form["token"], None)
            return 200, ""
        if form.get("grant_type") == "refresh_token":
            user = self.renewing.get(form.get("refresh_token"))
            return (200, json.dumps(self.tokens(user))) if user else (400, '{"error":"invalid_grant"}')
        begun = self.codes.pop(form.get("code"), None)
        if begun is None or form.get("redirect_uri") != begun["redirect_uri"] or not fits(form, begun):
            return 400, '{"error":"invalid_grant"}'
        renewing = secrets.token_urlsafe(900)
        self.renewing[renewing] = begun["user"]
        return 200, json.dumps({**self.tokens(begun["user"], begun["nonce"]), "refresh_token": renewing})

    def tokens(self, user, nonce=""):
        told = {"sub": f"sub-{user}", "cognito:groups": self.groups[user]}
        access = self.sign("access", client_id=self.client, username=user, scope="openid", **told)
        return {"access_token": access, "id_token": self.sign("id", aud=self.client, nonce=nonce, **told)}

    def sign(self, use, **claims):
        now = self.clock() // 1000
        told = {"iss": POOL, "token_use": use, "iat": now, "exp": now + 3600, **claims, **self.changes.get(use, {})}
        return jwt.encode(told, self.key, "RS256", headers={"kid": "k1"})


def plain(query):
    return {name: values[0] for name, values in parse_qs(query).items()}


def fits(form, begun):
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == begun["code_challenge"]


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Porch:
    """A service whose people sign in at a pool."""

    def __init__(self, desk, clock, address="http://testserver"):
        self.desk, self.clock, self.address = desk, clock, address
        self.pool = Pool(clock, back=address + CALLBACK, after=address + LEFT)
        people = tuple(Account(f"sub-{name}", name, frozenset(roles)) for name, roles in GROUPS.items())
        door = Door(self.pool.url, "pages", address + CALLBACK, address + LEFT)
        self.hosted = Hosted(desk.store, self.verifier("pages"), door, lambda: people, clock)
        self.front = Front(
            desk, self.hosted, address=address, secure=address.startswith("https://"), streams=False, tabs=of_runs
        )
        served = Served(desk, self.verifier("sites"), longest_wait=0)
        self.app = application(served, routes(self.front), streams=False)

    def verifier(self, client):
        return Cognito(POOL, [client], fetch=lambda: fetched(f"{self.pool.url}/keys"), clock=self.clock)

    def browser(self, user="", **headers):
        made = Browser(self.app, headers, self.address)
        if user:
            answer = self.come_back(made, user)
            assert answer.status_code == 303, answer.text
        return made

    def begin(self, browser, path="/login"):
        """Return where a browser is sent to sign in."""
        return sent_away(browser.client.get(path))

    def sign_in(self, url, user="carl"):
        """Return where the pool sends a browser once somebody has signed in: an address of the service's."""
        self.pool.user = user
        status, told = asked(url)
        assert status == 302, told
        assert told.startswith(self.address)
        return told.removeprefix(self.address)

    def come_back(self, browser, user="carl", path="/login"):
        """Sign in as a person does, and return what the service answers to the pool's redirection."""
        return browser.client.get(self.sign_in(self.begin(browser, path), user))

    def close(self):
        self.pool.close()


def sent_away(answer):
    """Return where a page goes on by itself."""
    wait, _, url = answer.headers["refresh"].partition("; url=")
    assert (answer.status_code, wait) == (200, "0") and html.escape(url) in answer.text
    return url


def asked(url):
    """Return status and text, or the address that one is sent to."""
    try:
        with build_opener(_Stay).open(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.headers.get("Location") or error.read().decode()
