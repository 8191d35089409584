"""Make docs/figures/page.webp: what a run of the demo leaves, as a person sees it.

Runs the demo (or takes a folder in which this script ran it before), draws the segmentation of the test scan with the
figure that `predict` draws, and lets a headless Chromium (Debian's `chromium`) photograph it beside the run's page and
the end of the terminal. Nothing in the picture is drawn for the picture alone.

    python docs/figures/make_page.py --run FOLDER [--chromium PROGRAM]
"""

from __future__ import annotations

import argparse
import base64
import html
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from computation.commands.figure import mosaic
from computation.scans.store.opening import open_store

HERE = Path(__file__).parent
SITE = "local0/simulatorRun"
#: Pixels of the picture, and how much smaller than life the page is in it.
SIZE = (1640, 1060)
SCALE = 0.72
#: Lines of the terminal's table that are shown.
LINES = 24

_PICTURE = """<!doctype html><meta charset="utf-8"><style>
  body {{ margin: 0; padding: 20px; box-sizing: border-box; width: {width}px; height: {height}px; background: #dfe5eb;
         display: grid; grid-template-columns: 840px 1fr; gap: 20px; font: 16px "DejaVu Sans", sans-serif; }}
  .card {{ background: #fff; border-radius: 8px; overflow: hidden; box-shadow: 0 1px 6px #0003; min-height: 0; }}
  iframe {{ border: 0; width: {page}px; height: 1450px; transform: scale({scale}); transform-origin: 0 0; }}
  .right {{ display: grid; grid-template-rows: auto 1fr; gap: 20px; min-height: 0; }}
  img {{ display: block; width: 100%; background: #000; }}
  pre {{ margin: 0; padding: 14px 18px; height: 100%; background: #14181d; color: #e7ebef;
         font: 14px/1.35 "DejaVu Sans Mono", monospace; }}
</style><div class="card"><iframe src="{source}"></iframe></div>
<div class="right"><div class="card"><img src="data:image/png;base64,{figure}"></div>
<div class="card"><pre>{terminal}</pre></div></div>"""


def main() -> None:
    """Run the demo where needed, compose, photograph, and write the picture beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the demo's run; made if it is not there")
    parser.add_argument("--out", type=Path, default=HERE / "page.webp", help="the picture")
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    options = parser.parse_args()
    run, browser = options.run.resolve(), shutil.which(options.chromium)
    if browser is None:
        sys.exit(f"{options.chromium} is not installed; Debian has it as `chromium`, or name one with --chromium")
    terminal = demo(run)
    source = run / "picture.html"
    source.write_text(composed(run, terminal), encoding="utf-8")
    photographed = run / "picture.png"
    photograph(browser, source, photographed)
    Image.open(photographed).convert("RGB").save(options.out, quality=86, method=6)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def demo(run: Path) -> str:
    """Return what the demo's run printed, after running it if this folder does not hold one."""
    said = run / "terminal.txt"
    if not said.is_file():
        words = [sys.executable, "-m", "computation.cli", "demo", "--output", str(run)]
        wide = {**os.environ, "COLUMNS": "84", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(words, stdout=subprocess.PIPE, env=wide, check=True, encoding="utf-8")
        said.write_text(done.stdout, encoding="utf-8")
    return said.read_text(encoding="utf-8")


def composed(run: Path, terminal: str) -> str:
    """Return the picture as a page: the site's own page, the segmentation and the terminal."""
    lines = terminal.splitlines()
    title = next(number for number, line in enumerate(lines) if "Simulated run" in line)
    return _PICTURE.format(
        width=SIZE[0],
        height=SIZE[1],
        page=round(840 / SCALE),
        scale=SCALE,
        source=f"output/{SITE}/index.html",
        figure=base64.b64encode(segmentation(run)).decode(),
        terminal="$ make run\n" + html.escape("\n".join(lines[title : title + LINES])),
    )


def segmentation(run: Path) -> bytes:
    """Return, as a PNG, the site's test scan with the outlines of what the model found in it."""
    with open_store(run / "sites" / SITE / "site.db") as store:
        scan = store.scans("test")[0]
        labels = nib.load(run / "output" / SITE / "predictions" / f"scan-{scan.key:04d}.nii.gz")
        image = store.read_image(scan, (0, 0, 0), labels.shape)
        names = store.label_names
    return mosaic(image, np.asarray(labels.dataobj, np.uint8), names, f"scan {scan.key}, a test scan of site local0")


def photograph(browser: str, source: Path, target: Path) -> None:
    """Let a browser without a screen write a PNG of a local page."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    # Chromium's own complaints about a missing desktop are no news.
    subprocess.run(
        [browser, *words, size, f"--screenshot={target}", source.as_uri()],
        check=True,
        timeout=120,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
