"""A model, its optimiser and its schedule, without data: the centre's replica, and the base of a site's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from computation.errors import ModelError, ResumeError
from computation.model import vector
from computation.model.architecture import Architecture
from computation.model.network import MeshNet, build
from computation.settings import Settings
from computation.training import optimiser
from computation.training.faults import NotFiniteError
from computation.training.schedule import learning_rate
from computation.wire import payload
from computation.wire.payload import Vector

__all__ = ["Learner"]


class Learner:
    """Holds the common model as one flat vector and steps it.

    The vector is the truth and the network follows: it is filled when somebody computes with it. So a centre, which
    never does, steps its replica in plain NumPy.

    Parameters
    ----------
    architecture : Architecture
        Of the model. It starts from the settings' seed.
    settings : Settings
        The owner's.
    rounds : int
        Of the whole run; the schedule spans them.
    device : torch.device
        Where the network computes.

    Attributes
    ----------
    manifest : Manifest
        What the vector holds: parameters, then the batch-norm statistics under policy `sync`.
    dtype : numpy.dtype
        Of the vector: float64 if the settings' precision is, else float32.
    """

    def __init__(
        self, architecture: Architecture, settings: Settings, rounds: int, *, device: torch.device | None = None
    ) -> None:
        _keep_memory()
        self.architecture, self.settings, self.rounds = architecture, settings, rounds
        self.device = device or torch.device("cpu")
        self.dtype: np.dtype[Any] = payload.dtype_of(settings.precision)
        wide = self.dtype == np.float64
        self._network = build(architecture, settings.seed, torch.float64 if wide else torch.float32).to(self.device)
        if settings.norm_policy == "frozen":
            self._network.freeze_statistics()
        self.manifest = vector.manifest(self._network, settings.norm_policy)
        self._parameters = vector.parameters(self._network)
        self._optimiser = optimiser.named(settings, self._parameters.size)
        self._values = vector.gather(self._network, self.manifest)
        self._digest = ""
        self._stale = False

    @property
    def model(self) -> MeshNet:
        """The network, holding the current vector."""
        if self._stale:
            vector.scatter(self._network, self.manifest, self._values)
            self._stale = False
        return self._network

    def vector(self) -> Vector:
        """Return the current model, shape `(manifest.size,)`, read-only; later steps do not change it."""
        return self._values

    @property
    def parts(self) -> dict[str, slice]:
        """Where in the vector the parameters are, and behind them the batch-norm statistics where they travel."""
        return vector.parts(self._parameters, self.manifest)

    def load_vector(self, values: Vector) -> None:
        """Take over a model; the optimiser's state stays.

        Raises
        ------
        ModelError
            If the vector is not one of this architecture and dtype.
        """
        if values.dtype != self.dtype:
            raise ModelError(f"a model vector is {values.dtype}; wanted {self.dtype}")
        vector.check(self.manifest, values)
        if values is not self._values:
            self._take(np.array(values))
        self._stale = True

    def _take(self, values: Vector) -> None:
        values.flags.writeable = False
        self._values, self._digest = values, ""

    def digest(self) -> str:
        """Return the SHA-256 of the current vector and its manifest, in hexadecimal."""
        self._digest = self._digest or payload.digest(self.manifest, self._values)
        return self._digest

    def rate(self, round: int) -> float:
        """Return the learning rate of a round, counted from 1."""
        return learning_rate(self.settings, round - 1, self.rounds)

    def apply_gradient(self, mean: Vector, round: int) -> None:
        """Step the optimiser once; batch-norm statistics that travel are taken over as they are.

        Parameters
        ----------
        mean : numpy.ndarray
            Shape `(manifest.size,)`: the averaged gradient of the parameters, then the averaged statistics.
        round : int
            From 1; it decides the learning rate.

        Raises
        ------
        ModelError
            If the vector is not one of this architecture.
        NotFiniteError
            If the step leaves the range of the dtype.
        """
        vector.check(self.manifest, mean)
        size = self._parameters.size
        stepped = self._step(self._values[:size], mean[:size], round)
        self._take(np.concatenate([stepped, mean[size:].astype(self.dtype)]))
        self._stale = True

    def _step(self, values: Vector, gradient: Vector, round: int) -> Vector:
        """Step in float64, whatever the network's dtype, and round once."""
        with np.errstate(all="ignore"):
            wide = self._optimiser.step(values.astype(np.float64), gradient.astype(np.float64), self.rate(round))
            stepped: Vector = wide.astype(self.dtype)
        if not np.isfinite(stepped).all():
            raise NotFiniteError(f"the step of round {round} made the model infinite; lower 'learning_rate'")
        return stepped

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything that a restart needs: arrays, and plain JSON values."""
        arrays = {"model": self._values}
        if self.settings.norm_policy == "local" and vector.statistics(self._network).size:
            arrays["statistics"] = vector.gather(self._network, vector.statistics(self._network))
        arrays.update({f"optimiser.{name}": array for name, array in self._optimiser.state().items()})
        return arrays, {"digest": self.digest()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state, bit for bit.

        Raises
        ------
        ResumeError
            If it is not a state of this learner.
        """
        try:
            self.load_vector(arrays["model"])
            if "statistics" in arrays:
                vector.scatter(self._network, vector.statistics(self._network), arrays["statistics"])
        except (KeyError, ModelError) as error:
            raise ResumeError("the checkpoint holds another model; start the run again", repr(error)) from error
        prefix = "optimiser."
        self._optimiser.load_state({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
        if self.digest() != values.get("digest"):
            raise ResumeError("the checkpoint's model does not have the digest that it names; start the run again")


def _keep_memory() -> None:
    """Have the C library keep what a step frees, up to tens of megabytes, for the next one.

    glibc gives it back to the system until it has once seen a larger piece freed, which then counts as usual (`mallopt`
    calls this dynamic); a process that does not train frees none. Without, each step asks for its pages anew.
    """
    np.empty(2**25 - 2**16, np.uint8)
