"""What a MeshNet's flat vector holds, told from its architecture alone; no PyTorch is needed for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from computation.errors import ModelError
from computation.model.architecture import Architecture
from computation.wire.payload import Manifest, Vector

__all__ = ["check", "of"]

_KERNEL = (3, 3, 3)


def of(architecture: Architecture) -> Manifest:
    """Return names and shapes of all values of a MeshNet: parameters first, then batch-norm statistics."""
    return Manifest((*_parameters(architecture), *_statistics(architecture)))


def _parameters(one: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    for place in range(len(one.dilations)):
        layer = f"layers.{place}"
        yield f"{layer}.conv.weight", (one.width, one.width if place else 1, *_KERNEL)
        if one.norm != "group":
            yield f"{layer}.conv.bias", (one.width,)
        if one.norm != "none":
            yield f"{layer}.norm.weight", (one.width,)
            yield f"{layer}.norm.bias", (one.width,)
    yield "head.weight", (one.classes, one.width, 1, 1, 1)
    yield "head.bias", (one.classes,)


def _statistics(one: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    for place in range(len(one.dilations) if one.norm == "batch" else 0):
        yield f"layers.{place}.norm.running_mean", (one.width,)
        yield f"layers.{place}.norm.running_var", (one.width,)


def check(manifest: Manifest, values: Vector) -> None:
    """Refuse a vector that cannot be this model.

    Raises
    ------
    ModelError
        If it has another length, or a running variance is negative.
    """
    if values.shape != (manifest.size,):
        raise ModelError(f"a model vector holds {values.size} values; wanted {manifest.size}")
    # Averages keep variances positive; only a forged vector or server momentum could make one negative.
    if (values[_variances(manifest)] < 0).any():
        raise ModelError("a batch-norm variance of the model is negative; the vector is not a model of this run")


@lru_cache(maxsize=16)
def _variances(manifest: Manifest) -> NDArray[np.intp]:
    """Return where the running variances are, or nothing."""
    found = [where for name, where in manifest.slices.items() if name.rpartition(".")[2] == "running_var"]
    return np.array([place for where in found for place in range(where.start, where.stop)], np.intp)
