"""Debian's chromium, which looks at pages for what is wrong with them; without it those tests are skipped."""

import os
import shutil
from contextlib import contextmanager

import pytest
from offices import SOUND

CHROMIUM = shutil.which("chromium")
WHY = "THE PAGES ARE NOT TESTED IN A BROWSER: playwright, axe-core-python or chromium is not installed"
if CHROMIUM is None:
    pytest.skip(WHY, allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason=WHY)
axe = pytest.importorskip("axe_core_python.sync_playwright", reason=WHY)


@contextmanager
def started():
    """Lend a browser."""
    with playwright.sync_playwright() as program:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        made = program.chromium.launch(executable_path=CHROMIUM, args=options)
        yield made
        made.close()


@contextmanager
def looking(chromium, base, name="", **options):
    """Lend a page that fails the test if anything is logged, fails or is asked of another host."""
    context = chromium.new_context(**options)
    page, wrong = context.new_page(), []
    page.on("console", lambda line: wrong.append(f"console: {line.text}") if _counts(line) else None)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda one: None if one.url.startswith(base) else wrong.append(f"elsewhere: {one.url}"))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}") or dialog.dismiss())
    if name:
        page.goto(f"{base}/login")
        page.fill("#name", name)
        page.fill("#password", SOUND)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{base}/")
    try:
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def _counts(line):
    """Leave out what a browser itself says of a page that came with a status such as 403."""
    return line.type in ("error", "warning") and "server responded with a status of 4" not in line.text


def serious(page, *rules):
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else None
    found = axe.Axe().run(page, options=options)["violations"]
    return [
        f"{page.url} {one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


#: Elements that stick out, where the page itself can be moved sideways.
WIDER = """width => document.documentElement.scrollWidth <= width ? [] :
    [...document.querySelectorAll("body, body *")].filter(one => one.getBoundingClientRect().right > width + 1)
        .map(one => one.outerHTML.slice(0, 120))"""


def tab_to(page, text):
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(
            "text => document.activeElement.matches('a, button, summary') && "
            "document.activeElement.textContent.includes(text)",
            text,
        ):
            return
    raise AssertionError(f"{text} is not reached by the tabulator")
