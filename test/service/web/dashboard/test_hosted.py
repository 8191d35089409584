"""Logging in at a user pool's pages: what must come back with the browser, cookies, renewing, and leaving both."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from doors import GROUPS, Porch, asked, sent_away
from houses import Hand
from offices import shown, stamp_of

from computation.errors import IdentityError
from service.blobs.files import Files
from service.cases.desk import Desk
from service.identity import tokens
from service.identity.attempt import Attempt
from service.identity.principal import Principal
from service.store.base import Replace
from service.store.memory import MemoryStore
from service.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def porch(request, tmp_path):
    clock = Hand()
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "service.db")
    made = Porch(Desk(store, Files(tmp_path / "files"), clock), clock)
    yield made
    made.close()
    store.close()


def cookie(browser, name="session"):
    return browser.client.cookies.get(f"meshnet-{name}")


def refused(answer, text):
    assert answer.status_code == 401 and text in shown(answer), shown(answer)
    assert not any("session=m" in one for one in answer.headers.get_list("set-cookie"))


USED, DENIED = "was used before; log in again", "did not confirm the sign-in"


def test_whoever_signs_in_comes_back_to_the_page_that_was_asked_for(porch):
    browser = porch.browser()
    answer = browser.get("/runs/new?x=1", 303)
    assert answer.headers["location"] == "/login?next=%2Fruns%2Fnew%3Fx%3D1"
    answer = porch.come_back(browser, "carl", answer.headers["location"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/new?x=1")
    page = browser.get("/runs/new?x=1")
    assert all(name in shown(page) for name in ("carl", "coordinator", "north", "south", "vera"))
    assert "/accounts" not in page.text and "/password" not in page.text
    for path in ("/password", "/accounts", "/credentials"):
        browser.get(path, 404)
    assert browser.get("/login?next=/pulse", 303).headers["location"] == "/pulse"


def test_the_pool_is_told_what_it_needs_and_no_secret(porch):
    browser = porch.browser()
    url = porch.begin(browser)
    told = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    attempt = Attempt.parse(cookie(browser, "form"))
    assert told == {
        "response_type": "code", "client_id": "pages", "redirect_uri": "http://testserver/login/callback",
        "scope": "openid", "state": attempt.state, "nonce": attempt.nonce, "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
    }  # fmt: skip
    assert attempt.secret not in url and attempt.verifier not in url
    assert len({attempt.state, attempt.nonce, attempt.verifier, attempt.challenge}) == 4
    assert porch.begin(porch.browser()) != url


@pytest.mark.parametrize(
    "path",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "", "\t//evil", "/%0d\n"],
)
def test_signing_in_goes_on_at_this_service_and_nowhere_else(porch, path):
    browser = porch.browser()
    answer = browser.client.get("/login", params={"next": path})
    answer = browser.client.get(porch.sign_in(sent_away(answer)))
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    # Nor where the cookie itself was put there by another.
    other, lie = porch.browser(), Attempt.new(porch.clock(), path)
    other.client.cookies.set("meshnet-form", lie.cookie)
    begun = porch.begin(porch.browser())
    code = parse_qs(urlsplit(porch.sign_in(begun)).query)["code"][0]
    refused(other.client.get("/login/callback", params={"state": lie.state, "code": code}), DENIED)


def test_from_a_form_and_from_a_script_no_browser_is_redirected_elsewhere(porch):
    browser = porch.browser("carl")
    browser.client.cookies.delete("meshnet-session")
    for answer in (browser.client.get("/pulse"), browser.client.post("/runs/new", data={"name": "x"})):
        # What the policy lets both follow; the page that they come to goes on by itself.
        assert answer.status_code == 303 and answer.headers["location"].startswith("/login")
        assert sent_away(browser.client.get(answer.headers["location"])).startswith(porch.pool.url)


def test_cookies_are_for_no_script_and_no_other_site_and_with_tls_for_no_plain_connection(porch, tmp_path):
    plain = porch.come_back(porch.browser()).headers.get_list("set-cookie")
    given = next(one for one in plain if one.startswith("meshnet-session="))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(given.split("; ")) and "Secure" not in given
    assert any(one.startswith('meshnet-form="";') and "Max-Age=0" in one for one in plain)
    sure = Porch(porch.desk, porch.clock, "https://testserver")
    browser = sure.browser()
    begun = browser.client.get("/login")
    answer = browser.client.get(sure.sign_in(sent_away(begun)))
    for name, given in (("form", begun), ("session", answer)):
        one = next(one for one in given.headers.get_list("set-cookie") if one.startswith(f"__Host-{name}="))
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Secure"} <= set(one.split("; ")) and "Domain" not in one
    browser.get("/")
    sure.close()


def test_a_state_is_good_for_one_sign_in_of_the_browser_that_began_it(porch):
    browser = porch.browser()
    url = porch.begin(browser)
    held, path = cookie(browser, "form"), porch.sign_in(url)
    refused(porch.browser().client.get(path), USED)  # somebody else's browser, who saw the address
    other = porch.browser()
    porch.begin(other)
    refused(other.client.get(path), USED)  # a browser that began another one
    assert browser.client.get(path).status_code == 303
    # Again, with the cookie that the browser was told to forget, and with a code that is new.
    browser = porch.browser()
    for again in (path, porch.sign_in(url)):
        browser.client.cookies.set("meshnet-form", held)
        refused(browser.client.get(again), USED)
    state = parse_qs(urlsplit(path).query)["state"][0]
    for wrong in ("", "x", state[:-1], state.upper(), f"{state}0", "é"):
        browser = porch.browser()
        code = parse_qs(urlsplit(porch.sign_in(porch.begin(browser))).query)["code"][0]
        refused(browser.client.get("/login/callback", params={"state": wrong, "code": code}), USED)
    assert len(porch.pool.asked) == 1  # none of them was worth a question to the pool


def test_of_two_that_finish_one_sign_in_at_once_one_does(porch):
    url, held = porch.hosted.begin("/")
    told = parse_qs(urlsplit(porch.sign_in(url)).query)

    def finish(_):
        try:
            return porch.hosted.finish(held, told["state"][0], told["code"][0])
        except IdentityError:
            return None

    with ThreadPoolExecutor(8) as threads:
        assert len([one for one in threads.map(finish, range(8)) if one]) == 1


def test_a_sign_in_is_finished_within_ten_minutes_by_the_services_clock(porch):
    browser = porch.browser()
    path = porch.sign_in(porch.begin(browser))
    porch.clock.forward(600)
    refused(browser.client.get(path), USED)
    # Another process's clock may be ahead of this one's, but not by much.
    url, held = porch.hosted.begin("/")
    porch.clock.forward(-60)
    told = parse_qs(urlsplit(porch.sign_in(url)).query)
    assert porch.hosted.finish(held, told["state"][0], told["code"][0])
    late = Attempt.new(porch.clock() + 60_001, "/")
    browser.client.cookies.set("meshnet-form", late.cookie)
    refused(browser.client.get("/login/callback", params={"state": late.state, "code": "x"}), USED)


def test_a_code_is_good_once_and_for_the_browser_that_asked_for_it(porch):
    url = porch.begin(porch.browser())
    stolen = parse_qs(urlsplit(porch.sign_in(url, "ada")).query)["code"][0]
    thief = porch.browser()
    state = parse_qs(urlsplit(porch.begin(thief)).query)["state"][0]
    # The thief has no verifier for it; the pool refuses, and the service says no more than that.
    refused(thief.client.get("/login/callback", params={"state": state, "code": stolen}), DENIED)
    assert cookie(thief) is None
    for code in ("", "x", "a" * 5000, "\0", "é"):
        browser = porch.browser()
        state = parse_qs(urlsplit(porch.begin(browser)).query)["state"][0]
        refused(browser.client.get("/login/callback", params={"state": state, "code": code}), DENIED)
        assert cookie(browser) is None


def test_what_the_pool_says_of_a_failure_is_not_repeated(porch):
    browser = porch.browser()
    porch.begin(browser)
    told = {"error": "access_denied", "error_description": "<b>call 555</b>"}
    answer = browser.client.get("/login/callback", params=told)
    refused(answer, USED)
    assert "555" not in answer.text and cookie(browser, "form") is None
    assert 'href="/login"' in answer.text


WRONG = {
    "an ID token of another issuer": {"id": {"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_zzz"}},
    "an access token of another issuer": {"access": {"iss": "https://evil.example"}},
    "another nonce": {"id": {"nonce": "0" * 64}},
    "no nonce": {"id": {"nonce": None}},
    "a nonce that is a list": {"id": {"nonce": ["x"]}},
    "an ID token for another client": {"id": {"aud": "sites"}},
    "an ID token for several": {"id": {"aud": ["pages"]}},
    "an access token for another client": {"access": {"client_id": "sites"}},
    "an ID token for another use": {"id": {"token_use": "access"}},
    "an access token for another use": {"access": {"token_use": "id"}},
    "an ID token of somebody else": {"id": {"sub": "sub-ada"}},
    "an access token of somebody else": {"access": {"sub": "sub-ada"}},
    "an ID token that is over": {"id": {"exp": 1}},
    "an access token without an end": {"access": {"exp": None}},
    "an ID token of tomorrow": {"id": {"iat": 1_900_000_000, "exp": 1_900_003_600}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_tokens_that_are_not_of_this_sign_in_let_nobody_in(porch, changes):
    porch.pool.changes = changes
    browser = porch.browser()
    answer = porch.come_back(browser)
    assert answer.status_code == 401 and cookie(browser) is None
    browser.get("/", 303)


def test_tokens_that_the_pool_did_not_sign_let_nobody_in(porch):
    porch.pool.key = rsa.generate_private_key(65537, 2048)
    assert porch.come_back(porch.browser()).status_code == 401


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"access_token": 7}', "{" * 999, "x" * 70_000])
def test_an_answer_of_the_pool_that_is_none_lets_nobody_in_and_says_so(porch, text, monkeypatch):
    monkeypatch.setattr(porch.pool, "posted", lambda path, form: (200, text))
    browser = porch.browser()
    answer = porch.come_back(browser)
    assert answer.status_code in (401, 503) and cookie(browser) is None


def test_a_pool_that_is_down_is_503_and_nobodys_fault(porch):
    browser, other = porch.browser("carl"), porch.browser()
    for porch.pool.down in (500, 503, 429, 302):
        answer = porch.come_back(other)
        assert answer.status_code == 503 and "gives no answer" in shown(answer)
    porch.clock.forward(3601)
    browser.get("/", 503)
    porch.pool.down = 0
    browser.get("/")  # the session is there as before


def test_a_session_is_renewed_by_itself_with_the_groups_of_then(porch):
    browser = porch.browser("carl")
    browser.get("/runs/new")
    porch.clock.forward(3599)
    browser.get("/runs/new")
    assert [form["grant_type"] for _, form in porch.pool.asked] == ["authorization_code"]
    porch.pool.groups["carl"] = ["viewer"]
    porch.clock.forward(1)
    browser.get("/runs/new", 403)
    browser.get("/")
    assert [form["grant_type"] for _, form in porch.pool.asked] == ["authorization_code", "refresh_token"]


def test_a_session_whose_user_is_gone_at_the_pool_ends_within_the_hour(porch):
    browser = porch.browser("carl")
    token = cookie(browser)
    porch.pool.renewing.clear()
    browser.get("/")
    porch.clock.forward(3600)
    assert browser.get("/", 303).headers["location"] == "/login"
    assert porch.desk.store.session(tokens.digest(token)) is None


def test_a_renewed_token_of_somebody_else_is_not_taken(porch):
    browser = porch.browser("carl")
    porch.pool.changes = {"access": {"sub": "sub-ada", "cognito:groups": ["administrator"]}}
    porch.clock.forward(3600)
    assert browser.get("/", 303).headers["location"] == "/login"
    assert browser.get("/", 303).headers["location"] == "/login"


def test_a_session_ends_after_a_week_whatever_the_pool_says(porch):
    browser = porch.browser("carl")
    porch.clock.forward(7 * 86_400 - 1)
    assert browser.get("/").status_code == 200
    porch.clock.forward(1)
    assert browser.get("/", 303).headers["location"] == "/login"


def test_many_pages_that_renew_at_once_log_nobody_out(porch):
    token = cookie(porch.browser("carl"))
    porch.clock.forward(3600)
    with ThreadPoolExecutor(8) as threads:
        assert {who.sub for who in threads.map(porch.hosted.holder, [token] * 16)} == {"sub-carl"}
    assert porch.hosted.holder(token).sub == "sub-carl"


def test_logging_out_ends_the_session_here_and_at_the_pool(porch):
    browser = porch.browser("carl")
    token, renewing = cookie(browser), next(iter(porch.pool.renewing))
    answer = browser.send("/logout", "/")
    assert "You are logged out." in shown(answer)
    assert asked(sent_away(answer)) == (302, "http://testserver/logged-out")
    assert porch.pool.revoked == [renewing]
    assert porch.browser("carl").get("/logged-out", 303).headers["location"] == "/"
    page = browser.get("/logged-out")
    assert "You are logged out." in shown(page) and 'href="/login"' in page.text
    browser.client.cookies.set("meshnet-session", token)
    assert browser.get("/", 303).headers["location"] == "/login"


def test_logging_out_does_not_wait_for_a_pool_that_is_down(porch):
    browser = porch.browser("carl")
    token = cookie(browser)
    porch.pool.down = 503
    assert browser.send("/logout", "/").status_code == 200
    assert porch.desk.store.session(tokens.digest(token)) is None


def test_the_session_that_a_browser_had_ends_with_a_new_one(porch):
    mine = porch.browser("north")
    planted = cookie(mine)
    victim = porch.browser()
    path = porch.sign_in(porch.begin(victim), "carl")
    victim.client.cookies.set("meshnet-session", planted)
    answer = victim.client.get(path)
    assert answer.status_code == 303
    given = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("meshnet-session="))
    assert porch.hosted.holder(given.partition("=")[2].partition(";")[0]).sub == "sub-carl"
    assert mine.get("/", 303).headers["location"] == "/login"


def test_what_is_no_session_is_nobodys(porch):
    token = cookie(porch.browser("carl"))
    for wrong in (
        "",
        "x",
        tokens.mint(tokens.REFRESH),
        tokens.mint(tokens.ACCESS),
        token[:-1],
        token + "A",
        "a" * 5000,
    ):
        browser = porch.browser()
        browser.client.cookies.set("meshnet-session", wrong)
        assert browser.get("/", 303).headers["location"] == "/login"
    for wrong in (
        "",
        "x",
        "x.1.",
        "a" * 43 + ".1.!",
        "a" * 43 + ".x.",
        "a" * 43 + ".1.ff",
        "a" * 43 + "." + "9" * 40,
    ):
        browser = porch.browser()
        browser.client.cookies.set("meshnet-form", wrong)
        refused(browser.client.get("/login/callback?state=x&code=y"), USED)


def test_the_store_alone_opens_no_session(porch):
    browser = porch.browser("carl")
    token, renewing = cookie(browser), next(iter(porch.pool.renewing))
    kept = porch.desk.store.session(tokens.digest(token))
    text = json.dumps(vars(kept)) + base64.b64decode(kept.sealed).decode("latin-1")
    head = porch.pool.tokens("carl")["access_token"].partition(".")[0]  # fewer letters come by chance
    assert token not in text and renewing not in text and head not in text
    assert "sealed" not in repr(kept)
    # A row that was put in another's place opens with nobody's token.
    other = cookie(porch.browser("ada"))
    swapped = replace(kept, sealed=porch.desk.store.session(tokens.digest(other)).sealed, version=kept.version + 1)
    porch.desk.store.write(Replace(swapped))
    browser.get("/", 303)


@pytest.mark.parametrize("path", ["/logout", "/runs/new"])
def test_a_form_from_elsewhere_does_nothing(porch, path):
    browser = porch.browser("carl")
    stamp = browser.stamp("/runs/new")
    foreign = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"})
    for headers in foreign:
        assert browser.client.post(path, data={"stamp": stamp, "name": "x"}, headers=headers).status_code == 403
    for wrong in ("", "0" * 64, "é", stamp_of(porch.browser("ada").get("/runs/new").text)):
        assert browser.client.post(path, data={"stamp": wrong, "name": "x"}).status_code == 403
    browser.get("/")
    assert porch.desk.store.runs("", 9)[0] == ()


def test_the_api_takes_no_cookie_and_no_token_of_the_pages_and_pages_take_no_bearer(porch):
    browser = porch.browser("carl")
    assert browser.client.get("/v1/runs").status_code == 401
    access = porch.pool.tokens("carl")["access_token"]
    assert porch.browser(Authorization=f"Bearer {access}").client.get("/v1/runs").status_code == 401
    porch.pool.client = "sites"
    access = porch.pool.tokens("carl")["access_token"]
    assert porch.browser(Authorization=f"Bearer {access}").client.get("/v1/runs").status_code == 200
    assert porch.browser(Authorization=f"Bearer {access}").get("/", 303)


def test_pages_are_made_looked_at_and_kept_up_without_a_stream(porch):
    browser = porch.browser("carl")
    page = browser.get("/runs/new")
    fields = {"name": "pilot", "key": re.search(r'name="key" value="([^"]*)"', page.text)[1]}
    fields |= {f"site-sub-{name}": "on" for name in ("north", "south")}
    fields |= {f"named-sub-{name}": name for name in ("north", "south")}
    made = browser.follow(browser.send("/runs/new", **fields))
    run = re.search(r'action="/runs/([0-9a-f-]+)"', made.text)[1]
    browser.follow(browser.send(f"/runs/{run}", verb="invite"))
    site = porch.browser("north")
    assert f"join http://testserver --run {run}" in shown(site.get("/invitations"))
    assert site.client.get(f"/runs/{run}/live").status_code == 204
    pulse = site.get(f"/runs/{run}/pulse").json()["pulse"]
    site.follow(site.send(f"/runs/{run}", "/invitations", verb="decline"))
    assert browser.get(f"/runs/{run}/pulse").json()["pulse"] != pulse
    assert porch.browser("south").get(f"/runs/{run}").status_code == 200
    assert {one.subject for one in porch.desk.store.memberships(run)} == {"sub-carl", "sub-north", "sub-south"}
    assert Principal("sub-carl", frozenset(GROUPS["carl"])).sub == porch.desk.store.run(run).owner


@pytest.mark.parametrize("path", ["/login", "/login/callback", "/logged-out", "/", "/static/x/main.js", "/nowhere"])
def test_every_answer_has_the_headers_of_a_page_and_says_nothing_of_itself(porch, path):
    answer = porch.browser().client.get(path)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"


def test_the_log_has_no_code_no_state_and_no_token(porch, caplog):
    caplog.set_level("DEBUG")
    browser = porch.browser()
    path = porch.sign_in(porch.begin(browser))
    browser.client.get(path)
    porch.clock.forward(3600)
    browser.get("/")
    token = cookie(browser)
    browser.send("/logout", "/")
    told = parse_qs(urlsplit(path).query)
    kept = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("service"))
    assert "route=/login/callback" in kept
    for secret in (told["code"][0], told["state"][0], token, *porch.pool.revoked, "sub-carl", "eyJ"):
        assert secret not in kept
