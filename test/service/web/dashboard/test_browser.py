"""Every page in Debian's chromium: nothing on the console, nothing from elsewhere, axe, the keyboard, a lost server."""

import re

import pytest
from browsers import WIDER, looking, serious, tab_to
from offices import HOSTILE, SOUND, Door

from service.cases import coordinator, site

SEEN = {
    "ada": ("/accounts", "account", "/password"),
    "carl": ("/", "draft", "running", "aborted", "/runs/new", "results", "audit", "edit", "/accounts"),
    "north": ("/invitations", "inviting", "account"),
    "vera": ("completed",),
    "nobody": ("/",),
}  # fmt: skip


def _paths(lived, name):
    known = {state: f"/runs/{run.id}" for state, run in lived.runs.items()}
    known |= {"results": known["completed"] + "/results", "audit": known["completed"] + "/audit"}
    known |= {"edit": known["draft"] + "/edit", "account": f"/accounts/{lived.subs['north']}"}
    return [known.get(path, path) for path in SEEN[name]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SEEN)
def test_pages_are_quiet_and_accessible(lived, served, chromium, name, scheme):
    with looking(chromium, served.url, name, color_scheme=scheme) as page:
        for path in _paths(lived, name):
            page.goto(served.url + path)
            page.evaluate("document.querySelectorAll('details:not(.ask):not(.me)').forEach(one => one.open = true)")
            assert not serious(page, *([] if scheme == "light" else ["color-contrast"]))


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(lived, served, chromium, width):
    with looking(chromium, served.url, "carl", viewport={"width": width, "height": 800}) as page:
        for path in _paths(lived, "carl"):
            page.goto(served.url + path)
            wide = page.evaluate(WIDER, width)
            assert not wide, (path, wide)


def test_the_login_page_is_accessible(served, chromium):
    for scheme in ("light", "dark"):
        with looking(chromium, served.url, color_scheme=scheme) as page:
            page.goto(f"{served.url}/login")
            assert not serious(page)
            page.fill("#name", "carl")
            page.fill("#password", "wrong")
            page.keyboard.press("Enter")
            page.wait_for_selector("[role=alert]")
            assert page.evaluate("document.activeElement.id") == "password"
            assert not serious(page)


def test_by_keyboard_alone_somebody_logs_in_finds_a_run_and_logs_out(lived, served, chromium):
    with looking(chromium, served.url) as page:
        page.goto(served.url)
        page.keyboard.type("carl")
        page.keyboard.press("Tab")
        page.keyboard.type(SOUND)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{served.url}/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        tab_to(page, "a completed one")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/runs/"))
        tab_to(page, "carl")
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        assert not page.is_visible("text=Log out")
        page.keyboard.press("Enter")
        tab_to(page, "Log out")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/login"))


def test_a_run_is_made_in_the_browser_and_foreign_text_runs_nowhere(lived, served, chromium):
    with looking(chromium, served.url, "carl") as page:
        page.click("text=New run")
        page.fill("#name", f"made here {HOSTILE}")
        page.fill("#description", HOSTILE)
        page.check("text=north")
        page.fill("#set-classes", f"background\n{HOSTILE[:60]}")
        page.click("button:has-text('Look it over')")
        page.wait_for_selector("text=The draft is kept")
        assert HOSTILE in page.inner_text("h1")
        page.click("button:has-text('Invite 1 site')")
        page.wait_for_selector("text=The sites are invited.")
        page.click("summary:has-text('Abort')")
        page.click("button:has-text('Abort the run')")
        page.wait_for_selector("text=The run is aborted.")


def test_a_page_keeps_up_with_its_run_and_keeps_what_is_open(lived, served, chromium):
    run = lived.make(name="kept up with", sites=("north", "south", "east"))
    with looking(chromium, served.url, "carl") as page:
        page.goto(f"{served.url}/runs/{run.id}")
        page.wait_for_timeout(300)
        page.click("text=What was agreed")
        assert page.locator(".badge:has-text('Invited')").count() == 3
        lived.site(run.id, "north").accept()
        page.wait_for_selector(".badge:has-text('Accepted')")
        page.wait_for_selector("button:has-text('Start with 1 site')")
        assert page.is_visible("text=The whole spec, as it is hashed")
        coordinator.abort(lived.desk, lived.who("carl"), run.id)
        page.wait_for_selector("text=The run was aborted")


def test_time_is_told_by_the_servers_clock(lived, served, chromium):
    run = lived.runs["running"].id
    with looking(chromium, served.url, "carl") as page:
        page.add_init_script("const real = Date.now; Date.now = () => real() + 5 * 3600 * 1000;")
        page.goto(f"{served.url}/runs/{run}")
        page.wait_for_timeout(1200)
        assert re.fullmatch(r"(5\d|60) min \d+ s|1 h 0 min", page.inner_text("[data-until]"))


@pytest.mark.parametrize("streams", [True, False])
def test_a_lost_server_is_told_and_what_happened_meanwhile_is_seen_when_it_is_back(lived, chromium, streams):
    from dataclasses import replace

    from service.web.app import application
    from service.web.dashboard import routes
    from service.web.served import Served

    def anew(port=0):
        front = replace(lived.front, streams=streams)
        return Door(application(Served(lived.desk, lived.local, local=lived.local), routes(front)), port)

    run, server = lived.make(name=f"lost {streams}"), anew()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/login")
    page.fill("#name", "carl")
    page.fill("#password", SOUND)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/")
    page.goto(f"{server.url}/runs/{run.id}")
    page.wait_for_timeout(500)
    assert not page.is_visible("#lost")
    server.stop()
    page.wait_for_selector("#lost:not([hidden])", timeout=15_000)
    assert "cannot be reached since" in page.inner_text("#lost")
    assert not serious(page)
    lived.site(run.id, "north").accept()
    server = anew(server.port)
    page.wait_for_selector("#lost", state="hidden", timeout=15_000)
    page.wait_for_selector(".badge:has-text('Accepted')", timeout=15_000)
    context.close()
    server.stop()


def test_a_session_that_ended_takes_the_page_to_the_login(lived, served, chromium):
    run = lived.make(name="left open")
    with looking(chromium, served.url, "cleo") as page:
        page.goto(served.url)
    with looking(chromium, served.url, "carl") as page:
        page.goto(f"{served.url}/runs/{run.id}")
        page.wait_for_timeout(300)
        lived.local.records.end_sessions(lived.subs["carl"])
        site.decline(lived.desk, lived.who("north"), run.id)
        page.wait_for_url(re.compile("/login"), timeout=15_000)


def test_copying(lived, served, chromium):
    with looking(chromium, served.url, "north", permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{served.url}/invitations")
        page.click("button:has-text('Copy') >> nth=0")
        page.wait_for_selector("text=Copied")
        assert page.evaluate("navigator.clipboard.readText()").startswith("coinstac-meshnet join http://127.0.0.1")
