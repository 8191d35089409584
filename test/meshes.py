"""Small data and a small model for a mesh."""

from pathlib import Path

import numpy as np


def pictures(folder: Path, train=64, test=32, seed=0):
    """Write pictures of 3 x 8 x 8 in three classes that differ in brightness."""
    chance = np.random.default_rng(seed)
    for name, count in (("train", train), ("test", test)):
        labels = chance.integers(3, size=count)
        inputs = labels[:, None, None, None] - 1 + 0.1 * chance.normal(size=(count, 3, 8, 8))
        (folder / name).mkdir(parents=True)
        np.savez(folder / name / "all.npz", inputs=inputs.astype(np.float32), targets=labels)
    return folder


SMALL = {"model": "simple-cnn", "configuration": {"side": 8, "hidden": 32, "classes": 3}}
