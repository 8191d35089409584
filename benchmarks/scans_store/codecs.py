"""How every filter and level does on the same blocks: the choice in `computation/scans/store/filters.py`."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import zstandard

from benchmarks.scans_store.rows import RESULTS
from computation.scans.making import images
from computation.scans.store import blocks, filters
from computation.scans.store.blocks import BlockGrid
from computation.scans.store.opening import open_store


def codecs(folder: Path) -> None:
    """Write how every filter and level does on the same blocks: the choice in `filters.py`."""
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
                    rows.append(codec_row(kind, codec, side, level, raws, len(held)))
    with (RESULTS / "scans_codecs.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def codec_row(kind, codec, side, level, raws, scans) -> dict[str, object]:  # type: ignore[no-untyped-def]
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
