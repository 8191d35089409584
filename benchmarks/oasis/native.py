"""How well a model does where a reader looks: on the scan's own grid, against the labels as they were drawn.

Dice on the conformed grid compares with labels that were resampled too, so figures of different spacings do not
compare; these do. Probabilities go back by linear interpolation, as in `coinstac-meshnet predict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.oasis.effects import Person
from benchmarks.oasis.outcome import Dices, Outcome
from computation.scans.making import labels
from computation.scans.making.native import shares_to_native
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.training.metrics import Counts, dice

__all__ = ["Score", "examine", "farthest"]

_nibabel: Any = nibabel


@dataclass(frozen=True)
class Score:
    """What one person's scan got.

    Attributes
    ----------
    conformed, native : tuple of float or None
        Dice of each class on the database's grid and on the scan's own, background first.
    far : float
        Millimetres from the head to the farthest voxel that is called brain; 0 if none lies outside.
    """

    conformed: Dices
    native: Dices
    far: float


def examine(
    outcome: Outcome, store: Store, split: str, classes: int, people: dict[str, Person], label_set: str
) -> dict[str, Score]:
    """Return the score of each person of a split."""
    return {
        scan.subject: _one(outcome, store, scan, classes, people[scan.subject], label_set)
        for scan in store.scans(split)
    }


def _one(outcome: Outcome, store: Store, scan: Scan, classes: int, person: Person, label_set: str) -> Score:
    shares = outcome.shares(store, scan)
    conformed = dice(Counts.of(shares.argmax(0), store.read_label(scan, (0, 0, 0), scan.shape), classes))
    found = np.asarray(shares_to_native(shares, scan).dataobj)
    drawn = labels.named(label_set).apply(np.asarray(_nibabel.load(person.label).dataobj))
    image = _nibabel.load(person.image)
    return Score(
        conformed,
        dice(Counts.of(found, drawn, classes)),
        farthest(found, np.asarray(image.dataobj) > 0, image.header.get_zooms()[:3]),
    )


def farthest(labelled: NDArray[Any], head: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    """Return the distance in millimetres of the labelled voxel that lies farthest from a head.

    Parameters
    ----------
    labelled : numpy.ndarray
        Labels, 0 for background.
    head : numpy.ndarray of bool
        Where the head is, on the same grid; not empty.
    spacing : tuple of float
        Millimetres between voxels.
    """
    distances: NDArray[np.float64] = ndimage.distance_transform_edt(~head, sampling=spacing)
    return float(distances[labelled != 0].max(initial=0.0))
