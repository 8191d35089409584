"""Logging in: cookies, forms from elsewhere, guesses, and where one goes on."""

import pytest
from offices import SOUND, Browser, Client, Office, fields_of, shown, stamp_of


def test_whoever_has_not_logged_in_is_sent_to_do_so_and_back(office):
    browser = office.browser()
    answer = browser.get("/runs/new?x=1", 303)
    assert answer.headers["location"] == "/login?next=%2Fruns%2Fnew%3Fx%3D1"
    page = browser.get(answer.headers["location"])
    sent = {"stamp": stamp_of(page.text), "name": "carl", "password": SOUND, "next": "/runs/new?x=1"}
    assert browser.client.post("/login", data=sent).headers["location"] == "/runs/new?x=1"


@pytest.mark.parametrize(
    "path",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "", "\t//evil", "/%0d\n"],
)
def test_login_goes_on_at_this_service_and_nowhere_else(office, path):
    browser = office.browser()
    answer = browser.send("/login", name="carl", password=SOUND, next=path)
    assert answer.headers["location"] in ("/", path) and not answer.headers["location"].startswith(
        ("//", "http", "java")
    )
    assert "\\" not in answer.headers["location"] and answer.headers["location"].isprintable()
    again = browser.client.get("/login", params={"next": path})
    assert again.status_code == 303 and again.headers["location"].rstrip("%0d") == "/"


def test_a_wrong_password_and_a_name_that_is_none_look_the_same(office):
    browser = office.browser()
    one, other = (browser.send("/login", name=name, password="wrong") for name in ("carl", "no such name"))
    assert (one.status_code, other.status_code) == (401, 401)
    assert shown(one) == shown(other) and "The name or the password is wrong." in shown(one)
    assert "session" not in browser.client.cookies


def test_guesses_are_slowed_down_and_told_so(office):
    browser = office.browser()
    answers = [browser.send("/login", name="carl", password="wrong") for _ in range(7)]
    assert answers[-1].status_code == 429 and "try again in" in shown(answers[-1])
    assert browser.send("/login", name="carl", password=SOUND).status_code == 429


def test_cookies_are_for_no_script_and_no_other_site_and_with_tls_for_no_plain_connection(office, tmp_path):
    answer = office.browser().send("/login", name="carl", password=SOUND)
    given = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("meshnet-session="))
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(given.split("; ")) and "Secure" not in given
    (tmp_path / "tls").mkdir()
    sure = Office(office.desk, tmp_path / "tls", secure=True)
    client = Client(sure.app, "https://testserver")
    page = client.get("/login")
    assert "__Host-form=" in page.headers["set-cookie"] and "Secure" in page.headers["set-cookie"]
    answer = client.post("/login", data={"stamp": stamp_of(page.text), "name": "carl", "password": SOUND})
    given = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-session="))
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Secure"} <= set(given.split("; ")) and "Domain" not in given


def test_a_session_that_somebody_else_put_there_is_never_taken_over(office):
    mine = office.browser("north")
    token = mine.client.cookies["meshnet-session"]
    victim = office.browser()
    victim.client.cookies.set("meshnet-session", token)
    page = victim.get("/login", 303)  # it is somebody's session: whoever wants another logs out first
    assert page.headers["location"] == "/"
    victim.client.cookies.set("meshnet-form", "f" * 43)
    from service.web.dashboard.guard import stamp

    answer = victim.client.post("/login", data={"stamp": stamp("f" * 43), "name": "carl", "password": SOUND})
    assert answer.status_code == 303
    new = next(one for one in answer.headers.get_list("set-cookie") if "session" in one).split("=")[1].split(";")[0]
    assert new != token
    assert mine.get("/", 303).headers["location"] == "/login"  # the planted one has ended
    for planted in ("", "x", "mnr_" + "A" * 43, "é" * 20):
        other = office.browser()
        other.client.cookies.set("meshnet-session", planted.encode("ascii", "ignore").decode())
        assert other.get("/", 303).headers["location"] == "/login"


@pytest.mark.parametrize("path", ["/login", "/logout", "/password", "/runs/new", "/accounts"])
def test_a_form_from_elsewhere_does_nothing(office, path):
    browser = office.browser("ada")
    fields = {"name": "ada", "password": SOUND, "old": SOUND, "new": "another horse battery", "again": "x"}
    stamp = browser.stamp()
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://["},
        {"Origin": "http://testserver", "Host": "["},
    ):
        answer = browser.client.post(path, data={"stamp": stamp, **fields}, headers=headers)
        assert answer.status_code == 403, (path, headers)
    for wrong in ("", "0" * 64, "é"):
        assert browser.client.post(path, data={"stamp": wrong, **fields}).status_code == 403
    browser.get("/accounts")
    assert len(office.local.records.accounts()) == len(office.subs)


def test_what_was_typed_is_kept_for_forms_of_this_service_alone(office):
    typed = {"stamp": "0" * 64, "name": "half <b>", "site-x": "on", "key": "k"}
    own, foreign = {"Origin": "http://testserver"}, {"Sec-Fetch-Site": "cross-site"}
    for headers in (foreign, {"Origin": "https://evil.example"}, {}):
        assert office.browser().client.post("/runs/new", data=typed, headers=headers).status_code == 303
        assert office.browser("carl").client.post("/runs/new", data=typed, headers=headers).status_code == 403
    for path in ("/runs/new", "/runs/01a2/edit"):
        answer = office.browser().client.post(path, data=typed, headers=own)
        assert (
            answer.status_code == 401 and 'value="half &lt;b&gt;"' in answer.text and f'action="{path}"' in answer.text
        )
        assert "stamp" not in fields_of(answer.text)
    answer = office.browser("carl").client.post("/runs/new", data=typed, headers=own)
    assert answer.status_code == 409 and fields_of(answer.text)["name"] == "half <b>"
    assert office.browser("vera").client.post("/runs/new", data=typed, headers=own).status_code == 403
    assert office.browser("carl").client.post("/runs/01a2/edit", data=typed, headers=own).status_code == 404
    assert office.browser().client.post("/password", data={"old": SOUND}, headers=own).status_code == 303


def test_a_login_page_that_lay_open_says_so_and_lets_in_whoever_is(office):
    sent = {"stamp": "0" * 64, "name": "carl", "password": SOUND, "next": "/runs/new"}
    own = {"Sec-Fetch-Site": "same-origin"}
    answer = office.browser().client.post("/login", data=sent, headers=own)
    assert answer.status_code == 403 and "lay open for too long" in shown(answer)
    assert office.browser("carl").client.post("/login", data=sent, headers=own).headers["location"] == "/"


def test_logging_out_ends_the_session_for_good(office):
    browser = office.browser("carl")
    token = browser.client.cookies["meshnet-session"]
    page = browser.follow(browser.send("/logout", "/"))
    assert "You are logged out." in shown(page)
    browser.client.cookies.set("meshnet-session", token)
    assert browser.get("/", 303).headers["location"] == "/login"


def test_a_new_password_ends_all_sessions(office):
    browser, other = office.browser("carl"), office.browser("carl")
    new = "a quite different sentence"
    assert "differ" in shown(browser.send("/password", old=SOUND, new=new, again="x"))
    answer = browser.send("/password", old="wrong", new=new, again=new)
    assert answer.status_code == 422 and "The old password is wrong." in shown(answer)
    assert browser.send("/password", old=SOUND, new="short", again="short").status_code == 422
    browser.follow(browser.send("/password", old=SOUND, new=new, again=new))
    assert other.get("/", 303)
    Browser(office.app).login("carl", new)


def test_the_api_takes_no_cookie_and_the_pages_take_no_bearer(office):
    browser = office.browser("carl")
    assert browser.client.get("/v1/runs").status_code == 401
    token = office.local.login("carl", SOUND).access
    assert office.browser(Authorization=f"Bearer {token}").get("/", 303)
    browser = office.browser()
    browser.client.cookies.set("meshnet-session", token)  # it is no session's own
    assert browser.get("/", 303)


def test_a_disabled_account_sees_nothing_any_more(office):
    browser = office.browser("carl")
    office.local.accounts.change(office.subs["carl"], disabled=True)
    assert browser.get("/", 303).headers["location"] == "/login"


def test_large_and_odd_forms_are_refused(office):
    browser = office.browser("carl")
    stamp = browser.stamp()
    assert browser.client.post("/runs/new", content=b"x=" + b"a" * 300_000).status_code == 413
    assert browser.client.post("/runs/new", content=b"a=b&" * 2000).status_code == 422
    assert browser.client.post("/runs/new", content=b"\xff\xfe=1&stamp=" + stamp.encode()).status_code == 422
    assert browser.client.post("/runs/new", content=b"%ff%fe=1&stamp=" + stamp.encode()).status_code == 422


def test_a_login_that_fails_by_itself_says_so_on_a_page(office, monkeypatch):
    def broken(*_):
        raise RuntimeError("a secret")

    monkeypatch.setattr(office.local.passwords, "fits", broken)
    answer = office.browser().send("/login", name="carl", password=SOUND)
    assert answer.status_code == 500 and "The service failed at this" in shown(answer) and "secret" not in answer.text
