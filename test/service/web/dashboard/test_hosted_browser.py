"""Signing in at a pool of another site in Debian's chromium, which holds to the policy and to the marks of cookies."""

import socket

import pytest
from doors import Porch
from offices import Door

from service.blobs.files import Files
from service.cases.desk import Desk
from service.clock import now
from service.store.memory import MemoryStore


@pytest.fixture(scope="module")
def porch(tmp_path_factory):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    desk = Desk(MemoryStore(), Files(tmp_path_factory.mktemp("files")))
    # Another name than the pool's, so that browsers see two sites.
    made = Porch(desk, now, f"http://localhost:{port}")
    door = Door(made.app, port)
    yield made
    door.stop()
    made.close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    made = context.new_page()
    made.complaints = []
    made.on("console", lambda told: made.complaints.append(told.text) if told.type == "error" else None)
    yield made
    context.close()


def test_somebody_signs_in_goes_on_and_leaves_both(porch, page):
    page.goto(f"{porch.address}/runs/new")
    page.wait_for_url(f"{porch.address}/runs/new")
    page.wait_for_selector("h1:has-text('New run')")
    assert page.evaluate("document.cookie") == ""
    page.click("details.me summary")
    page.click("text=Log out")
    page.wait_for_url(f"{porch.address}/logged-out")
    assert "You are logged out." in page.inner_text("main")
    assert [path for path, _ in porch.pool.asked][-1] == "/oauth2/revoke"
    assert page.complaints == []


def test_whose_session_has_ended_signs_in_from_a_form_and_from_a_page_that_keeps_up(porch, page):
    page.goto(f"{porch.address}/runs/new")
    page.wait_for_selector("h1:has-text('New run')")
    page.fill("#name", "pilot")
    page.context.clear_cookies()
    page.click("button:has-text('Look it over')")
    page.wait_for_selector("text=What you typed is still here")
    with page.context.expect_page() as opened:
        page.click("text=Log in, in a new tab")
    opened.value.wait_for_selector("h1:has-text('Runs')")
    page.click("button:has-text('Go on')")
    page.wait_for_selector("text=the session is another one")
    assert page.input_value("#name") == "pilot"
    assert all("responded with a status of 4" in one for one in page.complaints)
    page.complaints.clear()
    opened.value.close()
    page.goto(f"{porch.address}/")
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new Event('online'))")  # asks for news at once
    for _ in range(100):
        if "meshnet-session" in {one["name"] for one in page.context.cookies()}:
            break
        page.wait_for_timeout(200)
    assert "meshnet-session" in {one["name"] for one in page.context.cookies()}
    page.wait_for_url(f"{porch.address}/")
    page.wait_for_selector("h1:has-text('Runs')")
    assert not page.is_visible("#lost") and page.complaints == []
