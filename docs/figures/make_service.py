"""Make docs/figures/service-*.webp: the service's pages while two demo sites train, as people see them.

Builds the demo's two scan databases, starts the service and both sites as processes, makes accounts and a run with the
pages' own forms, and photographs each page with a headless Chromium (Debian's `chromium`). Nothing is drawn for the
pictures alone.

    python docs/figures/make_service.py [--folder FOLDER] [--out FOLDER] [--chromium PROGRAM]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from sqlite_fixtures.build import build

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "computation.cli"]
PASSWORD = "a long sentence for pictures"
SITES = ("Hospital North", "Hospital South")
#: What the pictured run is to be, where it is not as usual: small enough to end within minutes on any machine.
SETTINGS = {
    "model": "meshnet-10x5",
    "min_scans": "1",
    "epochs": "12",
    "patch_size": "32",
    "validate_every": "6",
    "learning_rate": "0.03",
}
#: Pixels of a picture, the least and the most of its height, and its quality: below 60 kB each.
WIDTH, LEAST, TALLEST, QUALITY = 1160, 560, 1400, 72


def main() -> None:
    """Run everything, and write the pictures beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="for data and outputs; default: one that is removed")
    parser.add_argument("--out", type=Path, default=HERE, help="for the pictures")
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    options = parser.parse_args()
    browser = shutil.which(options.chromium)
    if browser is None:
        sys.exit(f"{options.chromium} is not installed; Debian has it as `chromium`, or name one with --chromium")
    with tempfile.TemporaryDirectory() as spare, sync_playwright() as program:
        folder = options.folder or Path(spare)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        with serving(folder / "service") as url:
            chromium = program.chromium.launch(executable_path=browser, args=sandbox)
            page = chromium.new_page(viewport={"width": WIDTH, "height": LEAST})
            picture(Camera(page, options.out), url, folder)
        with serving(folder / "site", "--site", str(folder)) as url:
            picture_site(Camera(page, options.out), url, folder)
            chromium.close()


class Camera:
    """Photographs a page."""

    def __init__(self, page: Page, out: Path) -> None:
        self.page, self.out = page, out

    def __call__(self, name: str, scheme: str = "light", tallest: int = TALLEST) -> None:
        """Write one picture of the page as it is."""
        self.page.emulate_media(color_scheme=scheme)
        height = int(self.page.evaluate("document.querySelector('main').getBoundingClientRect().bottom"))
        self.page.set_viewport_size({"width": WIDTH, "height": max(LEAST, min(height, tallest))})
        self.page.wait_for_timeout(1200)
        with Image.open(io.BytesIO(self.page.screenshot())) as image:
            path = self.out / f"service-{name}.webp"
            image.save(path, quality=QUALITY, method=6)
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": WIDTH, "height": LEAST})
        print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


@contextmanager
def serving(data: Path, *more: str) -> Iterator[str]:
    """Serve a new data folder with one administrator."""
    words = [*COMMAND, "service", "admin", "Ada", "--data", str(data)]
    subprocess.run(words, input=f"{PASSWORD}\n", check=True, encoding="utf-8", stdout=subprocess.DEVNULL)
    serve = [*COMMAND, "serve", "--port", "0", "--data", str(data), *more]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            yield next(line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            process.terminate()


def picture(camera: Camera, url: str, folder: Path) -> None:
    """Make accounts and a run, and photograph every page on the way."""
    page = camera.page
    page.goto(f"{url}/login")
    camera("login")
    enter(page, url, "Ada")
    credentials = {name: enrol(page, url, name, folder) for name in SITES}
    camera("credentials")
    page.goto(f"{url}/accounts")
    camera("accounts")
    describe(page, url)
    camera("new")
    page.click("button:has-text('Look it over')")
    camera("draft", tallest=1500)
    page.click("button:has-text('Invite')")
    run = page.url.partition("?")[0]
    enter(page, url, SITES[0])
    page.goto(f"{url}/invitations")
    camera("invitations")
    command = page.get_attribute("[data-copy]", "data-copy")
    assert command is not None
    databases = build(folder / "sites")
    with joined(command, databases, list(credentials.values()), folder):
        enter(page, url, "Ada")
        page.goto(run)
        page.click("button:has-text('Start with 2 sites')", timeout=300_000)
        page.locator("figure .line").nth(5).wait_for(state="attached", timeout=600_000)
        page.wait_for_timeout(20_000)
        camera("run")
        camera("run-dark", "dark")
        page.goto(url)
        camera("runs")
        page.goto(run)
        page.wait_for_selector(".badge:has-text('Completed')", timeout=1_800_000)
        page.goto(f"{run}/results")
        camera("results", tallest=1000)
        page.goto(f"{run}/audit")
        camera("audit", tallest=680)


def picture_site(camera: Camera, url: str, folder: Path) -> None:
    """Photograph the pages of a site's own machine, about what its run has left."""
    page, output = camera.page, folder / "output-north"
    scans = folder / "sites" / "local0" / "simulatorRun" / "site.db"
    enter(page, url, "Ada")
    page.goto(f"{url}/database?at={scans.relative_to(folder)}")
    drawn(page)
    camera("site-database", tallest=1000)
    page.goto(f"{url}/run?at={output.relative_to(folder)}")
    drawn(page)
    camera("site-run", tallest=1230)


def drawn(page: Page) -> None:
    """Wait until a page's first picture is there."""
    image = page.locator("img.picture").first
    image.scroll_into_view_if_needed()
    page.wait_for_function("one => one.complete && one.naturalWidth > 300", arg=image.element_handle(), timeout=60_000)
    page.evaluate("scrollTo(0, 0)")


def enter(page: Page, url: str, name: str) -> None:
    """Log in, whoever was before."""
    page.context.clear_cookies()
    page.goto(f"{url}/login")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.click("button:has-text('Log in')")
    page.wait_for_url(f"{url}/")


def enrol(page: Page, url: str, name: str, folder: Path) -> Path:
    """Make a site's account and its credentials, and return their file."""
    page.goto(f"{url}/accounts")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.check("[name=role-site]")
    page.click("button:has-text('Make the account')")
    page.fill("#label", "training machine")
    page.click("button:has-text('Make a credential')")
    kept = page.get_attribute("[data-copy]", "data-copy")
    assert kept is not None and json.loads(kept)["token"]
    path = folder / f"{name.rpartition(' ')[2].lower()}.json"
    path.touch(mode=0o600)
    path.write_text(kept, encoding="utf-8")
    return path


def describe(page: Page, url: str) -> None:
    """Fill the form of a new run."""
    page.goto(f"{url}/runs/new")
    page.fill("#name", "Tissue in adults at 3 mm")
    page.fill("#description", "White and grey matter of the demo's heads, made from a template; they are not people.")
    page.fill("#quorum", "2")
    for name in SITES:
        page.check(f"text={name}")
    for fold in page.query_selector_all(".fold details:not([open]) summary"):
        fold.click()
    for name, value in SETTINGS.items():
        field = page.locator(f"#set-{name}")
        field.select_option(value) if name == "model" else field.fill(value)
    for fold in page.query_selector_all(".fold details[open] summary"):
        fold.click()
    page.evaluate("scrollTo(0, 0)")


@contextmanager
def joined(command: str, databases: list[Path], credentials: list[Path], folder: Path) -> Iterator[None]:
    """Let each site run the command that its page shows, with its own three paths."""
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    sites = []
    for database, kept in zip(databases, credentials, strict=True):
        own = {"SCANS.db": database, "FOLDER": folder / f"output-{kept.stem}", "SITE.json": kept}
        words = [str(own.get(word, word)) for word in shlex.split(command)[1:]]
        sites.append(subprocess.Popen([*COMMAND, *words], **quiet))
    try:
        yield
    finally:
        for site in sites:
            site.terminate()
            site.wait()


if __name__ == "__main__":
    main()
