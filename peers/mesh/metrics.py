"""What a model is worth: the report's figures from the confusion matrix, and Dice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["confusion", "figures"]


def confusion(targets: ArrayLike, found: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return how often each class (row) was taken for each (column), shape `(classes, classes)`."""
    pairs = np.asarray(targets, np.int64).ravel() * classes + np.asarray(found, np.int64).ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def figures(matrix: NDArray[np.int64], losses: Iterable[tuple[float, int]], seconds: float) -> dict[str, Any]:
    """Return loss, accuracy, precision, recall, F1 and Dice, the confusion matrix and the time, as plain JSON.

    Precision, recall and F1 are means over classes (macro), 0 where a class was never found or never there. Dice is
    over the classes besides 0, the background, that occur; of one class it is the same number as F1.

    Parameters
    ----------
    matrix : numpy.ndarray
        From `confusion`.
    losses : iterable of (float, int)
        Mean loss and size of each batch.
    seconds : float
        That learning took.
    """
    right = np.diag(matrix).astype(np.float64)
    there, found = matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(right, found), _ratio(right, there)
    f1 = _ratio(2 * right, there + found)
    seen = [index for index in range(1, len(matrix)) if there[index] + found[index]]
    weighed = list(losses)
    total = sum(size for _, size in weighed)
    return {
        "loss": sum(loss * size for loss, size in weighed) / total if total else 0.0,
        "accuracy": float(right.sum() / max(matrix.sum(), 1)),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "dice": float(f1[seen].mean()) if seen else 0.0,
        "confusion": matrix.tolist(),
        "seconds": seconds,
    }


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
    return ratio
