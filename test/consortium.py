"""Small real databases and short real runs, for the laws that hold over a whole run."""

from pathlib import Path

import numpy as np
from loopback import Loopback

from computation.scans.store import writer

CLASSES = ("background", "white matter", "grey matter")
COLOURS = ("#000000", "#ffffff", "#808080")
SHORT = {
    "model": "meshnet-10x5",
    "epochs": 2,
    "patch_size": 8,
    "validate_every": 2,
    "learning_rate": 0.01,
    "seed": 3,
    "min_scans": 1,  # nobody's scans: one of them is enough to validate on
    "data": ["site.db"],
}


def database(path: Path, *, scans=(2, 1, 1), side=12, seed=0, names=CLASSES, damage=None, stripped=None) -> Path:
    """Write a database of spheres in spheres: train, valid and test scans of `side` voxels a side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = tuple((*(float(3 * (row == column)) for column in range(3)), 0.0) for row in range(3))
    header = writer.Header("test", names, COLOURS[: len(names)], "quantile", block_side=8)
    parts = [part for part, count in zip(("train", "valid", "test"), scans, strict=True) for _ in range(count)]
    with writer.create(path, header) as out:
        for number, part in enumerate(parts):
            image, label = spheres(side, np.random.default_rng([seed, number]), len(names))
            if damage:
                image, label = damage(number, image, label)
            full = (*affine, (0.0, 0.0, 0.0, 1.0))
            person = f"person-{seed}-{number}"
            out.add(writer.Entry(person, "", part, full, 0.0, 1000.0, image, label, stripped=stripped))
    return path


def spheres(side, rng, classes):
    """Return an int16 image and a uint8 label: nested balls, brighter inside, with noise."""
    centre = side / 2 + rng.uniform(-1, 1, 3)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices((side,) * 3), centre, strict=True)))
    label = np.zeros((side,) * 3, np.uint8)
    for value in range(classes - 1, 0, -1):
        label[distance < side * 0.45 * value / (classes - 1)] = value
    image = np.rint(300.0 * label + rng.normal(0, 20, label.shape) * (label > 0)).clip(0, 1000).astype(np.int16)
    return image, label


def consortium(root: Path, sites=2, *, changes=None, scans=None, **options) -> Loopback:
    """Return a loopback consortium of `sites` small sites; `changes` go into every site's settings."""
    names = [f"local{index}" for index in range(sites)]
    made = {
        name: database(root / "made" / name / "site.db", seed=index, scans=(scans or [(2, 1, 1)] * sites)[index])
        for index, name in enumerate(names)
    }
    return Loopback(root / "run", {name: {**SHORT, **(changes or {})} for name in names}, made, **options)
