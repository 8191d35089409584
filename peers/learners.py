"""What learns at a peer: a site's `Trainer`, or any PyTorch module; the strategies and protocols drive both alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from computation.training.trainer import Gradient, LocalResult
from computation.wire.payload import Manifest, Vector

__all__ = ["Learner"]


class Learner(Protocol):
    """One peer's model, optimiser and data, with the verbs of `computation.training.trainer.Trainer`, which is one."""

    manifest: Manifest
    dtype: np.dtype[Any]

    def vector(self) -> Vector:
        """Return the model, shape `(manifest.size,)`, read-only; later steps do not change it."""
        ...

    def load_vector(self, values: Vector) -> None:
        """Take over a model; the optimiser's state stays. Raises `ModelError` if it is none of this learner's."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 of the model and its manifest, in hexadecimal."""
        ...

    def gradient(self, round: int) -> Gradient:
        """Return the mean gradient over the round's batches; the model and the optimiser stay as they are."""
        ...

    def apply_gradient(self, mean: Vector, round: int) -> None:
        """Step the optimiser once with a gradient of shape `(manifest.size,)`."""
        ...

    def local_steps(self, round: int) -> LocalResult:
        """Step the optimiser on each of the round's batches."""
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything that a restart needs: arrays, and plain JSON values."""
        ...

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state, bit for bit."""
        ...
