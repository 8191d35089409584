"""The scan database against the peer's table of whole zlib cubes: size, speed, memory, in one run.

Run: `.venv/bin/python -m benchmarks.scans_store [--data FOLDER] [--scans 10]`. FOLDER holds a `subjects.csv` with the
columns subject, image, label (the OASIS-25 set); without it the scans are made from the MNI152 template. Prints one
table and writes benchmarks/results/scans_store.csv. Times are medians on whatever machine this is; ratios are taken
between measurements that were interleaved, and carry over better.

The peer's side is written from the description of its format and loader: one row a scan, `Image` and `GWlabels` each
zlib(float32) of the whole cube, both scaled to 0..1 because its writer treated the label like an image. Its loader
fetches all rows into memory once; its trainer, to reach batch i, walks a shuffled loader from the start, decompressing
i + 1 scans, cuts each scan into the cubes of the wanted size and takes them all as one batch.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from computation.scans import blocks, filters, images, writer
from computation.scans.blocks import BlockGrid
from computation.scans.ingest import import_table
from computation.scans.split import Fractions
from computation.scans.store import open_store

LABELS = "gwm-white1-grey2:oasis-tissue"
ALL_TRAIN = Fractions(1.0, 0.0, 0.0)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with subjects.csv")
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child[0]](*arguments.child[1:])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = run(folder, arguments.data, arguments.scans, arguments.repeats)
    show(rows)


def run(folder: Path, data: Path | None, scans: int, repeats: int) -> list[dict[str, str]]:
    table, labels = subjects(folder, data, scans)
    made = child("imported", str(table), str(folder / "site.db"), labels, "2")
    import_table(table, folder / "exact.db", label_set=labels, storage="exact")
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
    rows += random_access(folder, repeats)
    rows += epoch(folder)
    rows += waiting(folder)
    used = child("memory", str(large(folder)))
    rows += [
        row(
            "200 scans, 1,000 batches: resident, MB", used["peak_mb"], "< 300", f"{used['base_mb']:.0f} before opening"
        ),
        row("... growth over the last 500 batches, MB", used["growth_mb"], "flat", ""),
    ]
    codecs(folder)
    return rows


def row(what: str, value: float, bar: str, note: str) -> dict[str, str]:
    return {"what": what, "value": f"{value:.4g}", "bar": bar, "note": note}


def show(rows: list[dict[str, str]]) -> None:
    print(f"{'what':<50} {'measured':>10} {'bar':>9}  note")
    for one in rows:
        print(f"{one['what']:<50} {one['value']:>10} {one['bar']:>9}  {one['note']}")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "scans_store.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def subjects(folder: Path, data: Path | None, scans: int) -> tuple[Path, str]:
    """Return a table of the first scans, and the label set."""
    table = folder / "table.csv"
    if data is None:
        return template(folder, scans), "gwm-white1-grey2"
    with (data / "subjects.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))[:scans]
    with table.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["subject", "image", "label"])
        out.writerows(
            [one["subject"], (data / one["image"]).resolve(), (data / one["label"]).resolve()] for one in lines
        )
    return table, LABELS


def template(folder: Path, scans: int) -> Path:
    """Make scans at 1 mm from the template, as the demo does."""
    import nibabel as nib

    from sqlite_fixtures.build import Subjects, build

    (made,) = build(folder / "template", sites=1, subjects=Subjects(scans, 0, 0), spacing_mm=1.0)
    lines = ["subject,image,label"]
    with open_store(made) as store:
        for scan in store.scans():
            for kind in ("image", "label"):
                voxels = store.stored(scan, kind, blocks.Box((0, 0, 0), scan.shape))
                nib.save(nib.Nifti1Image(voxels, np.array(scan.affine)), folder / f"{scan.key}_{kind}.nii.gz")
            lines.append(f"{scan.subject},{scan.key}_image.nii.gz,{scan.key}_label.nii.gz")
    (folder / "table.csv").write_text("\n".join(lines), "utf-8")
    return folder / "table.csv"


def peer(source: Path, target: Path, *, scaled: bool) -> None:
    """Write the peer's table."""
    connection = sqlite3.connect(target)
    connection.execute("CREATE TABLE mindboggle101 (id INTEGER PRIMARY KEY, Image BLOB, GWlabels BLOB)")
    with open_store(source) as store:
        for scan in store.scans():
            whole = blocks.Box((0, 0, 0), scan.shape)
            image, label = (store.stored(scan, kind, whole).astype("<f4") for kind in ("image", "label"))
            cells = [zlib.compress(cube.tobytes()) for cube in (image / image.max() if scaled else image, label / 2)]
            connection.execute("INSERT INTO mindboggle101 VALUES (?, ?, ?)", (scan.key, *cells))
    connection.commit()
    connection.execute("VACUUM")
    connection.close()


def cold(path: Path) -> None:
    """Drop a file's pages from the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def whole_row(connection: sqlite3.Connection, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Decompress a row as the peer does."""
    cells = connection.execute("SELECT Image, GWlabels FROM mindboggle101 WHERE id = ?", (key,)).fetchone()
    image, label = (np.frombuffer(zlib.decompress(cell), "<f4").reshape(256, 256, 256) for cell in cells)
    return image, label


def random_access(folder: Path, repeats: int) -> list[dict[str, str]]:
    """Time random sub-volumes of random scans, each from a cold file, against the peer's row; interleaved."""
    rows = []
    for side, bar in ((64, 50), (32, 100)):
        for where in ("anywhere", "inside the head"):
            draw = np.random.default_rng([side, len(where)])
            ours, theirs, warm = [], [], []
            for _ in range(repeats):
                key = int(draw.integers(1, 11))
                low, high = (0, 256 - side) if where == "anywhere" else (96 - side // 2, 160 - side // 2)
                origin = tuple(int(start) for start in draw.integers(low, high, 3))
                ours.append(ours_cold(folder / "site.db", key, origin, side))
                warm.append(ours_cold(folder / "site.db", key, origin, side, drop=False))
                if len(theirs) < 12:
                    theirs.append(theirs_cold(folder / "peer.db", key, origin, side))
            ratio = statistics.median(theirs) / statistics.median(ours)
            note = f"{1e3 * statistics.median(ours):.2f} ms (warm file {1e3 * statistics.median(warm):.2f})"
            rows.append(
                row(
                    f"random {side}^3 {where}: times faster",
                    ratio,
                    f">= {bar}",
                    f"{note}; peer {1e3 * statistics.median(theirs):.0f} ms",
                )
            )
    return rows


def ours_cold(path: Path, key: int, origin: tuple[int, ...], side: int, drop: bool = True) -> float:
    with open_store(path, cache_bytes=0) as store:
        scan = next(scan for scan in store.scans() if scan.key == key)
        if drop:
            cold(path)
        began = time.perf_counter()
        store.read(scan, origin, (side,) * 3)
        return time.perf_counter() - began


def theirs_cold(path: Path, key: int, origin: tuple[int, ...], side: int) -> float:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    cold(path)
    began = time.perf_counter()
    image, label = whole_row(connection, key)
    place = tuple(slice(start, start + side) for start in origin)
    image[place].copy(), (label[place] * 2).astype(np.uint8)
    took = time.perf_counter() - began
    connection.close()
    return took


def epoch(folder: Path) -> list[dict[str, str]]:
    """Time an epoch of one 64^3 sub-volume a scan, against the peer's loader in the way that its trainer walks it."""
    from computation.scans.sampling import PatchSampler

    def ours() -> float:
        began = time.perf_counter()
        with open_store(folder / "site.db") as store:
            sampler = PatchSampler(store, "train", patch_size=(64, 64, 64), batch_size=1, seed=1, site="s")
            for step in range(sampler.steps_per_epoch):
                sampler.batch(step)
        return (time.perf_counter() - began) / sampler.steps_per_epoch

    def theirs(batches: int) -> float:
        connection = sqlite3.connect(folder / "peer.db")
        keys = [key for (key,) in connection.execute("SELECT id FROM mindboggle101")]
        train = keys[: int(0.7 * len(keys))]
        began = time.perf_counter()
        for wanted in range(batches):
            order = np.random.permutation(train)
            for index, key in enumerate(order):
                cubes = [cut(cube) for cube in whole_row(connection, int(key))]
                if index == wanted:
                    break
        connection.close()
        assert cubes[0].shape == (64, 64, 64, 64)
        return (time.perf_counter() - began) / batches

    batches = 7
    measured = [(ours(), theirs(batches)) for _ in range(2)]
    mine, other = (statistics.median(one[k] for one in measured) for k in (0, 1))
    note = (
        f"a step: {1e3 * mine:.1f} ms; peer {1e3 * other:.0f} ms (a step of 64 cubes: {1e3 * other / 64:.1f} ms a cube)"
    )
    return [row("epoch of 64^3: times faster per step", other / mine, ">= 10", note)]


def waiting(folder: Path) -> list[dict[str, str]]:
    """Time what a training step of the 5-channel network waits for its 64^3 batch, with and without reading ahead."""
    import torch

    from computation.model import architecture, network
    from computation.scans.prefetch import Prefetcher
    from computation.scans.sampling import PatchSampler

    model = network.build(architecture.named("meshnet-10x5", classes=3), seed=1)

    def share(sampler: Prefetcher | PatchSampler) -> float:
        waited = worked = 0.0
        for step in range(12):
            began = time.perf_counter()
            batch = sampler.batch(step)
            got = time.perf_counter()
            torch.nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
            if step > 1:
                waited, worked = waited + got - began, worked + time.perf_counter() - got
        return 100 * waited / (waited + worked)

    rows = []
    with open_store(folder / "site.db", cache_bytes=0) as store:
        plain = PatchSampler(store, "train", patch_size=(64, 64, 64), batch_size=1, seed=1, site="s")
        with Prefetcher(plain) as ahead:
            rows.append(
                row("loading, % of a 64^3 training step, prefetched", share(ahead), "<= 5", "meshnet-10x5, batch 1")
            )
        rows.append(row("... without prefetch", share(plain), "", ""))
    return rows


def cut(cube: np.ndarray) -> np.ndarray:
    """Cut 256^3 into 64 cubes of 64^3."""
    return cube.reshape(4, 64, 4, 64, 4, 64).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 64, 64, 64).copy()


def large(folder: Path) -> Path:
    """Write a database of 200 scans of 256^3, all with the voxels of the first ten."""
    path = folder / "large.db"
    with open_store(folder / "site.db") as store:
        header = writer.Header("gwm-white1-grey2", store.label_names, ("#000000",) * 3, store.normalisation)
        with writer.create(path, header) as out:
            for index in range(200):
                scan = store.scans()[index % len(store.scans())]
                out.copy(store, scan, subject=f"s{index}", split="train")
    return path


def imported(table: str, database: str, label_set: str, jobs: str) -> dict[str, float]:
    began = time.perf_counter()
    import_table(Path(table), Path(database), label_set=label_set, jobs=int(jobs), seed=1, fractions=ALL_TRAIN)
    return {"seconds": time.perf_counter() - began, "peak_mb": 0.0}


def memory(path: str) -> dict[str, float]:
    from computation.scans.sampling import PatchSampler

    base = resident()
    seen = []
    with open_store(path) as store:
        sampler = PatchSampler(store, "train", patch_size=(64, 64, 64), batch_size=1, seed=1, site="s")
        for step in range(1000):
            sampler.batch(step)
            seen.append(resident())
    return {"base_mb": base, "peak_mb": max(seen), "growth_mb": seen[-1] - max(seen[400:500])}


def resident() -> float:
    """Megabytes resident now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def child(name: str, *words: str) -> dict[str, float]:
    """Measure in a process of its own, and its peak with all its children's, sampled."""
    command = [sys.executable, "-m", "benchmarks.scans_store", "--child", name, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree(process.pid))
        time.sleep(0.02)
    out = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{name} failed")
    found = json.loads(out.splitlines()[-1])
    return {**found, "peak_mb": max(found["peak_mb"], peak if name == "imported" else 0.0)}


def tree(pid: int) -> float:
    """Megabytes resident in a process and its descendants; shared pages count in each."""
    total = 0.0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        total += pages * resource.getpagesize() / 1e6
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(tree(int(word)) for word in (thread / "children").read_text("ascii").split())
    except (OSError, IndexError):
        pass
    return total


def codecs(folder: Path) -> None:
    """Write how every filter and level does on the same blocks: the choice in `filters.py`."""
    import zstandard

    with open_store(folder / "exact.db") as store:
        scans = store.scans()[:2]
        exact = [store.stored(scan, "image", blocks.Box((0, 0, 0), scan.shape)) for scan in scans]
        label = [store.stored(scan, "label", blocks.Box((0, 0, 0), scan.shape)) for scan in scans]
    volumes = {"8bit": [images.storable(one, "8bit")[0] for one in exact], "exact": exact, "label": label}
    fitting = {
        "8bit": ("zstd", "zstd+delta"),
        "exact": ("zstd", "zstd+shuffle", "zstd+delta"),
        "label": ("zstd", "zstd+bits2"),
    }
    rows = []
    for kind, held in volumes.items():
        for codec in fitting[kind]:
            for side in (16, 32, 64):
                raws = [(filters.apply(codec, part), part) for one in held for part in parts(one, side)]
                for level in (3, 9, 15, 19) if side == 32 else (15,):
                    rows.append(codec_row(kind, codec, side, level, raws, len(held), zstandard))
    with (RESULTS / "scans_codecs.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def codec_row(kind, codec, side, level, raws, scans, zstandard) -> dict[str, object]:  # type: ignore[no-untyped-def]
    press, tool = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    began = time.perf_counter()
    packed = [press.compress(raw) for raw, _ in raws]
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    for data, (_, part) in zip(packed, raws, strict=True):
        filters.undo(codec, tool.decompress(data), part.shape, part.dtype)
    read = time.perf_counter() - began
    return {
        "kind": kind,
        "codec": codec,
        "side": side,
        "level": level,
        "kB_a_scan": round(sum(map(len, packed)) / scans / 1e3, 1),
        "write_s_a_scan": round(wrote / scans, 3),
        "read_us_a_block": round(1e6 * read / len(raws), 1),
    }


def parts(volume: np.ndarray, side: int) -> list[np.ndarray]:
    grid = BlockGrid(volume.shape, side)
    cubes = (np.ascontiguousarray(volume[grid.box(block).slices()]) for block in range(len(grid)))
    return [cube for cube in cubes if cube.any()]


CHILDREN = {"imported": imported, "memory": memory}

if __name__ == "__main__":
    main()
