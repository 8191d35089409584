"""A site's pages in Debian's chromium: nothing on the console, nothing from elsewhere, axe, the keyboard, an import."""

import re
import shutil

import pytest
from browsers import WIDER, looking, serious, started, tab_to
from clinics import SECRET, Clinic, bids, left, table
from offices import HOSTILE, Door

NAME = HOSTILE.replace("/", "|")


@pytest.fixture(scope="module")
def chromium():
    with started() as made:
        yield made


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A site with something of each kind, and a name that would be markup."""
    folder = tmp_path_factory.mktemp("clinic")
    made = Clinic(folder)
    left(made.root / "output", folder / "spare", made.root / "site.db")
    table(made.root / NAME, 3)
    bids(made.root / "dataset")
    (made.root / "out").symlink_to(made.outside)
    made.door = Door(made.app)
    made.url = made.door.url
    yield made
    made.door.stop()
    made.close()


PATHS = ("/", "/?at=output", "/?at=dataset", "/work", "/import?at=dataset", "/database?at=site.db", "/run?at=output",
         "/run?at=no", "/database?at=no", "/?at=output/work/cache", "/accounts", "/password")  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_quiet_and_accessible(served, chromium, scheme):
    with looking(chromium, served.url, "ada", color_scheme=scheme) as page:
        for path in PATHS:
            page.goto(served.url + path)
            page.evaluate("document.querySelectorAll('details:not(.ask):not(.me)').forEach(one => one.open = true)")
            assert not serious(page, *([] if scheme == "light" else ["color-contrast"]))
            for one in page.locator("img.picture").all():
                one.scroll_into_view_if_needed()
                page.wait_for_function("one => one.complete && one.naturalWidth > 300", arg=one.element_handle())
                assert len(one.get_attribute("alt")) > 30


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(served, chromium, width):
    with looking(chromium, served.url, "ada", viewport={"width": width, "height": 800}) as page:
        for path in PATHS:
            page.goto(served.url + path)
            wide = page.evaluate(WIDER, width)
            assert not wide, (path, wide)


def test_by_keyboard_alone_a_table_is_found_and_imported_and_looked_at(served, chromium):
    shutil.rmtree(served.root / "again", ignore_errors=True)
    shutil.copytree(served.root / NAME, served.root / "again")
    with looking(chromium, served.url, "north") as page:
        tab_to(page, "again")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("at=again"))
        tab_to(page, "Import table.csv")
        page.keyboard.press("Enter")
        page.wait_for_selector("#spacing")
        page.fill("#spacing", "2")
        page.fill("#split", "1 0")
        page.focus("#split")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        assert "Wanted 3 numbers" in page.inner_text("[role=alert]")
        assert page.get_attribute("#split", "aria-invalid") == "true" and page.input_value("#spacing") == "2"
        page.fill("#split", "1 0 0")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/work"))
        page.wait_for_selector(".badge:has-text('Done')", timeout=120_000)
        assert not serious(page)
        tab_to(page, "What the database holds")
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:has-text('table.db')")
        assert page.locator("tbody tr").count() == 3


def test_an_import_is_stopped_and_the_page_keeps_up(served, chromium):
    with looking(chromium, served.url, "north") as page:
        page.goto(served.url)
        page.click(f"a.row:has-text('{NAME[:8]}')")
        assert page.inner_text("h1") == NAME
        page.click("a.button:has-text('Import')")
        page.click("button:text-is('Import')")
        page.wait_for_selector(".badge:has-text('Under way')")
        assert not serious(page)
        page.click("summary:has-text('Stop it')")
        page.click("button:has-text('Stop it now')")
        page.wait_for_selector("text=It was stopped", timeout=60_000)
        assert SECRET not in page.content()
        page.wait_for_timeout(300)


def test_a_runs_own_page_can_do_nothing(served, chromium):
    path = served.root / "output" / "results" / "index.html"
    kept = path.read_text("utf-8")
    script = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\"></body>"
    path.write_text(re.sub("<meta http-equiv[^>]*>", "", kept).replace("</body>", script), "utf-8")
    try:
        context = chromium.new_context()
        with looking(chromium, served.url, "north") as page:
            cookies = page.context.cookies()
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"{served.url}/run/page?at=output")
        page.wait_for_timeout(300)
        assert "MeshNet" in page.title() and page.locator("h1").count() == 1
        context.close()
    finally:
        path.write_text(kept, "utf-8")
