"""The scan database against the peer's table of whole zlib cubes: size, speed, memory, in one run.

Run: `.venv/bin/python -m benchmarks.scans_store [--data FOLDER] [--scans 10] [--like ras] [--codecs]`. FOLDER holds a
`subjects.csv` with the columns subject, image, label (the OASIS-25 set); without it the scans are made from the MNI152
template. Prints one table and writes benchmarks/results/scans_store.csv; with `--codecs` every filter and level is
measured, too, into scans_codecs.csv, which takes minutes. Times are medians on whatever machine this is; ratios are
taken between measurements that were interleaved, and carry over better.

The peer's side is written from the description of its format and loader: one row a scan, `Image` and `GWlabels` each
zlib(float32) of the whole cube, both scaled to 0..1 because its writer treated the label like an image. Its loader
fetches all rows into memory once; its trainer, to reach batch i, walks a shuffled loader from the start, decompressing
i + 1 scans, cuts each scan into the cubes of the wanted size and takes them all as one batch.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

from benchmarks.scans_store.children import ALL_TRAIN, CHILDREN, child
from benchmarks.scans_store.codecs import codecs
from benchmarks.scans_store.data import large, peer, subjects
from benchmarks.scans_store.reading import epoch, random_access, waiting
from benchmarks.scans_store.rows import RESULTS, Row, row
from computation.scans.making.ingest import import_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with subjects.csv")
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--like", default="ras", choices=("ras", "freesurfer"), help="how the scans are conformed")
    parser.add_argument("--codecs", action="store_true", help="measure every filter and level, too")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child[0]](*arguments.child[1:])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = run(folder, arguments.data, arguments.scans, arguments.repeats, arguments.like)
        if arguments.codecs:
            codecs(folder)
    show(rows)


def run(folder: Path, data: Path | None, scans: int, repeats: int, like: str) -> list[Row]:
    table, labels = subjects(folder, data, scans)
    made = child("imported", str(table), str(folder / "site.db"), labels, "2", like)
    import_table(table, folder / "exact.db", label_set=labels, storage="exact", like=like, fractions=ALL_TRAIN)
    peer(folder / "exact.db", folder / "peer.db", scaled=True)
    peer(folder / "exact.db", folder / "whole.db", scaled=False)
    sizes = {name: (folder / f"{name}.db").stat().st_size for name in ("site", "exact", "peer", "whole")}
    rows = [
        row("size / peer", sizes["site"] / sizes["peer"], "<= 0.35", f"{sizes['site'] / scans / 1e6:.2f} MB a scan"),
        row("size / peer storing the file's whole numbers", sizes["site"] / sizes["whole"], "<= 0.35", ""),
        row("size of exact storage / peer", sizes["exact"] / sizes["peer"], "", ""),
        row(f"import {scans} scans, s", made["seconds"], "< 60", "two processes"),
        row("import, peak of all processes, MB", made["peak_mb"], "< 1000", ""),
    ]
    rows += random_access(folder, scans, repeats)
    rows += epoch(folder)
    rows += waiting(folder)
    used = child("memory", str(large(folder)))
    rows += [
        row(
            "200 scans, 1,000 batches: resident, MB", used["peak_mb"], "< 300", f"{used['base_mb']:.0f} before opening"
        ),
        row("... growth over the last 500 batches, MB", used["growth_mb"], "flat", ""),
    ]
    return rows


def show(rows: list[Row]) -> None:
    print(f"{'what':<50} {'measured':>10} {'bar':>9}  note")
    for one in rows:
        print(f"{one['what']:<50} {one['value']:>10} {one['bar']:>9}  {one['note']}")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "scans_store.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


if __name__ == "__main__":
    main()
