"""Times of reading: sub-volumes from a cold file, an epoch, and what a training step waits."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
import zlib
from pathlib import Path

import numpy as np

from benchmarks.scans_store.rows import Row, row
from computation.scans.store.opening import open_store


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


def random_access(folder: Path, scans: int, repeats: int) -> list[Row]:
    """Time random sub-volumes of random scans, each from a cold file, against the peer's row; interleaved.

    "Inside the head" means that the middle of the sub-volume lies in the middle quarter of the grid along each axis.
    """
    rows = []
    for side, bar in ((64, 50), (32, 100)):
        for where in ("anywhere", "inside the head"):
            draw = np.random.default_rng([side, len(where)])
            ours, theirs, warm = [], [], []
            for repeat in range(repeats):
                key = int(draw.integers(1, scans + 1))
                low, high = (0, 256 - side) if where == "anywhere" else (96 - side // 2, 160 - side // 2)
                origin = tuple(int(start) for start in draw.integers(low, high, 3))
                ours.append(ours_cold(folder / "site.db", key, origin, side))
                warm.append(ours_cold(folder / "site.db", key, origin, side, drop=False))
                # A row takes long and always the same: every third time will do.
                if repeat % 3 == 0:
                    theirs.append(theirs_cold(folder / "peer.db", key, origin, side))
            mine, again, other = (1e3 * statistics.median(times) for times in (ours, warm, theirs))
            note = f"{mine:.2f} ms (warm file {again:.2f}); peer {other:.0f} ms"
            rows.append(row(f"random {side}^3 {where}: times faster", other / mine, f">= {bar}", note))
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


def epoch(folder: Path) -> list[Row]:
    """Time an epoch of one 64^3 sub-volume a scan, against the peer's loader in the way that its trainer walks it."""
    from computation.scans.drawing.sampling import PatchSampler

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


def waiting(folder: Path) -> list[Row]:
    """Time what a training step of the 5-channel network waits for its 64^3 batch, with and without reading ahead."""
    import torch

    from computation.model import architecture, network
    from computation.scans.drawing.prefetch import Prefetcher
    from computation.scans.drawing.sampling import PatchSampler

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
