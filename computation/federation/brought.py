"""What a site brings to a run: numbers of scans, and how they were prepared, in words that name nobody."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from computation.errors import SettingsError, StoreError
from computation.model import vector
from computation.scans.store.opening import Store
from computation.training.trainer import Trainer

__all__ = ["check_role", "labelled_counts", "preparation", "scan_counts"]


def scan_counts(store: Store, trainer: Trainer) -> dict[str, int]:
    """Return the number of scans in each part of the split; to train on, a scan needs a label."""
    return {"train": trainer.samples, **{split: len(store.scans(split)) for split in ("valid", "test")}}


def labelled_counts(store: Store) -> tuple[dict[str, int], dict[str, int]]:
    """Return what this site's evaluations may count: labelled scans in `valid` and `test`, and their voxels."""
    scans = {split: [scan for scan in store.scans(split) if scan.labelled] for split in ("valid", "test")}
    voxels = {split: sum(math.prod(scan.shape) for scan in there) for split, there in scans.items()}
    return {split: len(there) for split, there in scans.items()}, voxels


def check_role(trainer: Trainer, labelled: Mapping[str, int]) -> None:
    """Refuse scans with which a site can neither train nor evaluate.

    Parameters
    ----------
    trainer : Trainer
        The site's.
    labelled : mapping of int
        Labelled scans in `valid` and `test` whose counts may leave the site.

    Raises
    ------
    StoreError
        If there is no labelled scan to train on, and none, or too few, to evaluate.
    SettingsError
        If a site that only evaluates would need batch-norm statistics of its own, which only training makes.
    """
    if trainer.samples:
        return
    if not any(labelled.values()):
        raise StoreError(
            "the scan database has no labelled scan to train on and none to evaluate of which counts may leave; import "
            "some with split 'train', or with 'valid' or 'test' at a site that only evaluates, at least as many as "
            f"setting 'min_scans' says, {trainer.settings.min_scans}"
        )
    if trainer.settings.norm_policy == "local" and vector.statistics(trainer.model).size:
        raise SettingsError(
            "the scan database has no scan to train on, so this site cannot have batch-norm statistics of its own; "
            "import some with split 'train', or change 'norm_policy' or 'norm'"
        )


def preparation(store: Store) -> dict[str, str]:
    """Say how the scans were prepared, in a few words that name nobody."""
    scans = store.scans()
    return {
        "normalisation": store.normalisation,
        "spacing_mm": _one_of(_sides(scan.spacing) for scan in scans),
        "grid": _one_of(_sides(scan.shape) for scan in scans),
        "axes": _one_of(scan.axes for scan in scans),
        "head": _one_of(scan.head for scan in scans),
    }


def _sides(numbers: Iterable[float]) -> str:
    return " x ".join(f"{side:g}" for side in numbers)


def _one_of(words: Iterable[str]) -> str:
    found = set(words)
    return found.pop() if len(found) == 1 else "several"
