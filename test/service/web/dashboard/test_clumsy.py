"""The web application as the clumsiest use it: twice, beside another tab, too late, zoomed, with long and odd names."""

import re

import pytest
from browsers import WIDER, looking
from offices import SOUND

from service.cases import coordinator, reading

#: Names that are as long as may be, have no place to break, or are written from right to left.
LONG, WIDE, RIGHT = "x" * 200, "W" * 64, "مستشفى الشمال 🧠 Hospital"
#: Whether what has the focus can be seen: what is painted where it is belongs to it.
SEEN = """() => {
    const one = document.activeElement, box = one.getBoundingClientRect();
    if (one.matches(".skip, body")) return true;
    const top = document.elementFromPoint(box.left + Math.min(box.width / 2, 20), box.top + box.height / 2);
    return top !== null && (one.contains(top) || (top.contains(one) && !top.contains(document.querySelector("main"))));
}"""


def log_in(page, name):
    page.fill("#name", name)
    page.fill("#password", SOUND)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/login"))


def draft(page, url, name):
    page.goto(f"{url}/runs/new")
    page.fill("#name", name)
    page.fill("#description", "Typed for a long time.")
    page.check("text=north")


def drafts(lived, who, name):
    return [one for one in reading.runs(lived.desk, lived.who(who), "", 200)[0] if one.wanted.name == name]


def test_what_is_pressed_twice_is_done_once(lived, served, chromium):
    sub = lived.local.accounts.add("pressed twice", {"site"}).sub
    with looking(chromium, served.url, "ada") as page:
        page.goto(f"{served.url}/accounts/{sub}")
        page.fill("#label", "by Enter")
        page.evaluate("const form = document.querySelector('form.inline'); form.requestSubmit(); form.requestSubmit();")
        page.wait_for_selector("text=The credential “by Enter” is made.")
        page.reload()
        page.wait_for_selector("text=by Enter")
        assert "is made" not in page.inner_text("main")
        assert len(lived.local.records.credentials(sub)) == 1
    with looking(chromium, served.url, "carl") as page:
        draft(page, served.url, "pressed twice")
        page.dblclick("button:has-text('Look it over')")
        page.wait_for_selector("text=The draft is kept")
        page.dblclick("button:has-text('Invite 1 site')")
        page.wait_for_selector("text=The sites are invited.")
    assert len(drafts(lived, "carl", "pressed twice")) == 1


def test_whoever_comes_back_after_logging_out_sees_nothing(lived, served, chromium):
    with looking(chromium, served.url, "carl") as page:
        for path in (f"/runs/{lived.runs['completed'].id}", "/runs/new"):
            page.goto(served.url + path)
        page.click("details.me summary")
        page.click("text=Log out")
        page.wait_for_url(re.compile("/login"))
        for _ in range(2):
            page.go_back()
            page.wait_for_selector("#password")
            assert "/login?next=" in page.url


@pytest.mark.parametrize("scripts", [True, False])
def test_a_session_that_ends_in_the_middle_of_a_form_costs_nothing_that_was_typed(lived, served, chromium, scripts):
    name = f"ended in the middle {scripts}"
    with looking(chromium, served.url, "cleo", java_script_enabled=scripts) as page:
        draft(page, served.url, name)
        lived.local.records.end_sessions(lived.subs["cleo"])
        page.click("button:has-text('Look it over')")
        page.wait_for_selector("text=What you typed is still here")
        with page.context.expect_page() as opened:
            page.click("text=Log in, in a new tab")
        log_in(opened.value, "cleo")
        page.click("button:has-text('Go on')")
        page.wait_for_selector("text=the session is another one")
        assert page.input_value("#name") == name and page.is_checked("text=north")
        assert not drafts(lived, "cleo", name), "a form of another session does nothing by itself"
        page.click("button:has-text('Look it over')")
        page.wait_for_selector("text=The draft is kept")
    assert len(drafts(lived, "cleo", name)) == 1


def test_a_tab_from_before_a_new_login_keeps_its_form_and_a_second_login_page_lets_in(lived, served, chromium):
    with looking(chromium, served.url, "cleo") as page:
        other = page.context.new_page()
        draft(page, served.url, "of an old tab")
        other.goto(served.url)
        other.click("details.me summary")
        other.click("text=Log out")
        other.wait_for_selector("#password")
        third = page.context.new_page()
        third.goto(f"{served.url}/login")
        log_in(other, "cleo")
        log_in(third, "cleo")
        assert third.inner_text("h1") == "Runs"
        page.click("button:has-text('Look it over')")
        page.wait_for_selector("text=the session is another one")
        assert page.input_value("#description") == "Typed for a long time."


def test_nobody_overwrites_or_invites_to_what_somebody_else_has_changed(lived, served, chromium):
    run = lived.make(name="changed by two", invited=False)
    with looking(chromium, served.url, "carl") as page:
        other = page.context.new_page()
        page.goto(f"{served.url}/runs/{run.id}/edit")
        other.goto(f"{served.url}/runs/{run.id}")
        page.fill("#description", "by the first")
        coordinator.revise(lived.desk, lived.who("carl"), run.id, {**run.wanted.as_json(), "name": "by the second"})
        other.click("button:has-text('Invite')")
        other.wait_for_selector("text=the draft was changed")
        page.click("button:has-text('Keep the changes')")
        page.wait_for_selector("text=the draft was changed")
        assert reading.run(lived.desk, lived.who("carl"), run.id).wanted.name == "by the second"
        page.click("button:has-text('Keep the changes')")
        page.wait_for_selector("text=The draft is changed.")
    assert reading.run(lived.desk, lived.who("carl"), run.id).wanted.description == "by the first"


def test_a_paused_run_is_aborted(lived, served, chromium):
    run = lived.make(name="paused, then aborted")
    lived.begin(run.id)
    with looking(chromium, served.url, "carl") as page:
        page.goto(f"{served.url}/runs/{run.id}")
        page.dblclick("button:has-text('Pause')")
        page.wait_for_selector("text=Standing still")
        page.click("summary:has-text('Abort')")
        page.dblclick("button:has-text('Abort the run')")
        page.wait_for_selector("text=The run was aborted")
        assert "being planned" not in page.inner_text("main")


def test_a_name_of_any_length_and_direction_hides_nothing_beside_it(lived, served, chromium):
    for name in (WIDE, RIGHT):
        lived.subs[name] = lived.local.accounts.add(name, {"site"}, SOUND).sub
    for name in (LONG, RIGHT):
        lived.make(name=name, description=5 * name)
    for width in (320, 390, 1200):
        for who, path in (("carl", "/"), ("ada", "/accounts"), ("north", "/invitations"), ("carl", "/runs/new")):
            with looking(chromium, served.url, who, viewport={"width": width, "height": 800}) as page:
                page.goto(served.url + path)
                assert not page.evaluate(WIDER, width), (width, path)
                if path in ("/", "/accounts") and width == 1200:
                    table = page.locator(".scroll").first
                    assert table.evaluate("one => one.scrollWidth <= one.clientWidth"), path
                if path == "/":
                    turned = page.locator(f"th:has-text('{RIGHT}')").first
                    assert turned.evaluate("one => getComputedStyle(one).unicodeBidi") == "plaintext"


@pytest.mark.parametrize(
    "screen", [{"width": 1200, "height": 700}, {"width": 600, "height": 400}, {"width": 390, "height": 800}], ids=str
)
def test_what_has_the_focus_is_never_covered(lived, served, chromium, screen):
    with looking(chromium, served.url, "carl", viewport=screen) as page:
        page.goto(f"{served.url}/runs/new")
        for key in ["Tab"] * 45 + ["Shift+Tab"] * 40:
            page.keyboard.press(key)
            assert page.evaluate(SEEN), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
