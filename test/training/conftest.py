"""A store of a few small scans in memory, with the protocol of the real one."""

import dataclasses

import numpy as np
import pytest

from computation.model import architecture
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.records import Scan
from computation.settings import Settings
from computation.training.trainer import Trainer

AFFINE = ((-2.0, 0.0, 0.0, 30.0), (0.0, 0.0, 2.0, -10.0), (0.0, 2.5, 0.0, 5.0), (0.0, 0.0, 0.0, 1.0))


def _patchy(generator, shape):
    """Return cubes of one intensity, with noise."""
    coarse = generator.normal(size=[-(-side // 3) for side in shape])
    for axis in range(3):
        coarse = coarse.repeat(3, axis)
    fine = coarse[tuple(slice(side) for side in shape)] + 0.1 * generator.normal(size=shape)
    return fine.astype(np.float32)


class MemoryStore:
    """Scans whose labels follow from their intensities, so that there is something to learn."""

    format = "meshnet"
    label_names = ("background", "white matter", "grey matter")
    normalisation = "none"

    def __init__(self, splits=("train", "train", "train", "valid", "test"), shape=(12, 11, 10), seed=0):
        generator = np.random.default_rng(seed)
        self.bad: set[int] = set()
        self.preparation: dict[str, str] = {}
        self._scans, self._voxels = [], {}
        for key, split in enumerate(splits, 1):
            image = _patchy(generator, shape)
            self._voxels[key] = (image, np.digitize(image, [-0.5, 0.5]).astype(np.uint8))
            self._scans.append(
                Scan(key, f"sub-{key}", "", split, shape, (2.0, 2.5, 2.0), AFFINE, "float32", 0.0, 1.0, True)
            )

    def scans(self, split=None):
        return tuple(scan for scan in self._scans if split in (None, scan.split))

    def read_image(self, scan, origin, size):
        return self._cut(scan, 0, origin, size)

    def read_label(self, scan, origin, size):
        return self._cut(scan, 1, origin, size)

    def read(self, scan, origin, size):
        return self.read_image(scan, origin, size), self.read_label(scan, origin, size)

    def voxels(self, key):
        return self._voxels[key]

    def relabel(self, key, labels):
        self._voxels[key] = (self._voxels[key][0], labels)

    def _cut(self, scan, which, origin, size):
        if scan.key in self.bad:
            raise ScanFault(Fault.CHECKSUM, f"{scan.subject}, block 0")
        return self._voxels[scan.key][which][tuple(slice(o, o + s) for o, s in zip(origin, size, strict=True))]

    def close(self):
        pass


@pytest.fixture
def store():
    return MemoryStore()


def make_trainer(store=None, *, rounds=10, site="local0", sampler=None, clock=None, **changes):
    """Return a small trainer on the CPU; `changes` are settings."""
    small = {"model": "meshnet-10x5", "patch_size": (8, 8, 8), "seed": 3}
    settings = dataclasses.replace(Settings(), **{**small, **changes})
    extra = {key: value for key, value in (("sampler", sampler), ("clock", clock)) if value is not None}
    return Trainer(
        architecture.from_settings(settings),
        settings,
        rounds,
        store=store or MemoryStore(),
        site=site,
        device="cpu",
        **extra,
    )


@pytest.fixture
def trainer():
    return make_trainer


@pytest.fixture
def memory_store():
    return MemoryStore
