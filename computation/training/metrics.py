"""Dice from voxel counts. Counts add up over scans, sites and rounds; ratios do not, so only counts travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from computation.errors import ScanError

__all__ = ["Counts", "dice", "foreground_mean", "mean"]


@dataclass(frozen=True, eq=False)
class Counts:
    """Voxels of each class, summed over scans.

    Parameters
    ----------
    intersection, predicted, truth : numpy.ndarray of int64
        Shape `(classes,)`: voxels in both, in the prediction, in the truth.
    scans : int
        Scans counted.
    skipped : tuple of int
        Keys of scans left out because they could not be read; they never leave the site.
    """

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]
    scans: int = 0
    skipped: tuple[int, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.intersection + other.intersection,
            self.predicted + other.predicted,
            self.truth + other.truth,
            self.scans + other.scans,
            self.skipped + other.skipped,
        )

    @classmethod
    def of(cls, predicted: ArrayLike, truth: ArrayLike, classes: int) -> Counts:
        """Count the voxels of one scan.

        Parameters
        ----------
        predicted, truth : array of integers
            Equal shapes, labels in 0..classes-1.
        classes : int
            Number of classes.

        Raises
        ------
        ScanError
            If the shapes differ or a label lies outside.
        """
        guess, label = np.asarray(predicted), np.asarray(truth)
        if guess.shape != label.shape:
            raise ScanError(f"a prediction of shape {guess.shape} cannot be compared with a label of {label.shape}")
        for volume in (guess, label):
            if volume.size and not 0 <= int(volume.min()) <= int(volume.max()) < classes:
                raise ScanError(f"a label map has values outside 0..{classes - 1}; import it with the right label set")
        table = np.zeros(classes * classes, np.int64)
        # Slab by slab: the pair numbers of a whole volume would take eight bytes a voxel.
        for one, other in zip(np.atleast_1d(guess), np.atleast_1d(label), strict=True):
            pairs = np.ravel(other).astype(np.intp) * classes + np.ravel(one)
            table += np.bincount(pairs, minlength=classes * classes)
        square = table.reshape(classes, classes)
        return cls(square.diagonal().copy(), square.sum(0), square.sum(1), scans=1)

    @classmethod
    def none(cls, classes: int, *, skipped: tuple[int, ...] = ()) -> Counts:
        """Return the counts of no scan at all."""
        zero = np.zeros(classes, np.int64)
        return cls(zero, zero, zero, skipped=skipped)


def dice(counts: Counts) -> tuple[float | None, ...]:
    """Return the Dice coefficient of each class: `2 intersection / (predicted + truth)`.

    A class that occurs neither in the predictions nor in the truth has none: `None`, never NaN, zero or one.
    """
    sizes = counts.predicted + counts.truth
    return tuple(
        2 * int(both) / int(size) if size else None for both, size in zip(counts.intersection, sizes, strict=True)
    )


def foreground_mean(values: Sequence[float | None]) -> float | None:
    """Return the mean over all classes but the first, the background; classes without a value are left out."""
    return mean(values[1:])


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that there are, or `None` if there is none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
