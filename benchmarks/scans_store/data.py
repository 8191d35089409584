"""The databases that are compared: ours, the peer's, and a large one, from given scans or the template."""

from __future__ import annotations

import csv
import sqlite3
import zlib
from pathlib import Path

import numpy as np

from computation.scans.store import blocks, writer
from computation.scans.store.opening import open_store

LABELS = "gwm-white1-grey2:oasis-tissue"


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
