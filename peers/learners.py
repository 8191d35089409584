"""What learns at a peer: a site's `Trainer`, or any PyTorch module; the strategies and protocols drive both alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from computation.errors import ModelError, PeersError, ResumeError
from computation.model import vector
from computation.training.device import computing
from computation.training.faults import NotFiniteError
from computation.training.trainer import Correction, Gradient, LocalResult
from computation.wire import payload
from computation.wire.payload import Manifest, Vector
from peers import nest

__all__ = ["Batches", "Learner", "Loss", "ModuleLearner", "take_whole", "whole", "whole_manifest"]

#: Inputs and targets of a round's batches, from 1: the same ones whenever asked.
Batches: TypeAlias = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
#: Mean loss over a batch of what a network made of the inputs, and the targets.
Loss: TypeAlias = Callable[[Any, Tensor], Tensor]

_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}
_POLICIES = ("sync", "local")


class Learner(Protocol):
    """One peer's model, optimiser and data, with the verbs of `computation.training.trainer.Trainer`, which is one."""

    manifest: Manifest
    dtype: np.dtype[Any]
    #: Of a round.
    batches: int

    @property
    def parts(self) -> dict[str, slice]:
        """Where in the vector the `parameters` are, and behind them the `statistics` of batch norm that travel."""
        ...

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

    def local_steps(self, round: int, correct: Correction | None = None) -> LocalResult:
        """Step the optimiser on each of the round's batches, whose gradients may be corrected."""
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything that a restart needs: arrays, and plain JSON values."""
        ...

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state, bit for bit."""
        ...


def whole(learner: Learner) -> Vector:
    """Return the parameters and all batch-norm statistics, those too that do not travel.

    Shape `(whole_manifest(learner).size,)`, read-only. A learner without a PyTorch module has no more than its vector.
    """
    kept = _kept(learner)
    if not kept.size:
        return learner.vector()
    values: Vector = np.concatenate([learner.vector(), vector.gather(_module(learner), kept)])
    values.flags.writeable = False
    return values


def take_whole(learner: Learner, values: Vector) -> None:
    """Take over what `whole` returned elsewhere.

    Raises
    ------
    ModelError
        If it is of another model.
    """
    vector.check(whole_manifest(learner), values)
    size, kept = learner.manifest.size, _kept(learner)
    learner.load_vector(values[:size])
    if kept.size:
        vector.scatter(_module(learner), kept, values[size:])


def whole_manifest(learner: Learner) -> Manifest:
    """Return names and shapes of what `whole` returns."""
    return Manifest(learner.manifest.entries + _kept(learner).entries)


def _kept(learner: Learner) -> Manifest:
    """Return the manifest of the batch-norm statistics that are not in the learner's vector."""
    model = getattr(learner, "model", None)
    statistics = vector.statistics(model).entries if isinstance(model, nn.Module) else ()
    return Manifest(tuple(entry for entry in statistics if entry not in learner.manifest.entries))


def _module(learner: Learner) -> nn.Module:
    model: nn.Module = learner.model  # type: ignore[attr-defined]  # `_kept` found one
    return model


@dataclass
class _Tally:
    """Losses over samples and batches."""

    summed: float = 0.0
    samples: int = 0
    batches: int = 0

    def add(self, loss: float, samples: int) -> None:
        self.summed, self.samples, self.batches = self.summed + samples * loss, self.samples + samples, self.batches + 1

    def mean(self, round: int) -> float:
        if not self.samples:
            raise PeersError(f"round {round} has nothing to learn from; wanted a batch with a sample in it at least")
        return self.summed / self.samples


class ModuleLearner:
    """Any PyTorch module with its optimiser, loss and batches.

    The module holds the truth: whoever looks at it sees the current model. What chance there is in a pass, dropout
    say, is seeded from the run's seed, the learner's name, the round and the batch's place in it, so that a restarted
    learner computes the bits of the unbroken run; the process's own random stream stays as it is.

    Parameters
    ----------
    model : torch.nn.Module
        On any device, of one dtype.
    optimiser : torch.optim.Optimizer
        Of the module's parameters; any that steps without a closure.
    loss : callable
        Maps outputs and targets to the mean loss over the batch.
    batches : callable
        Maps a round to its batches; `peers.batches.Shuffled` makes one of a data set.
    name : str
        The peer's: no two draw the same random numbers.
    seed : int
        Of the run.
    policy : str
        `sync`: batch-norm statistics ride behind the parameters in the vector, and are averaged with it; `local`: each
        peer keeps its own.

    Attributes
    ----------
    manifest : Manifest
        What the vector holds: parameters, then the batch-norm statistics under policy `sync`.
    dtype : numpy.dtype
        Of the vector: the module's.
    batches : int
        That the latest round had.

    Raises
    ------
    ModelError
        If the module is not of one dtype, float32 or float64; if the optimiser steps parameters of another module; or
        if there is no such policy.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        batches: Batches,
        *,
        name: str = "",
        seed: int = 0,
        policy: str = "sync",
    ) -> None:
        _refuse_strangers(model, optimiser)
        if policy not in _POLICIES:
            raise ModelError(f"there is no batch-norm policy {policy[:40]!r}; wanted one of {', '.join(_POLICIES)}")
        self.model, self.name, self.seed, self.policy = model, name, seed, policy
        self.dtype = _dtype(model)
        self.manifest = vector.manifest(model, policy)
        self._parameters = vector.parameters(model)
        self._travelling = Manifest(self.manifest.entries[len(self._parameters.entries) :])
        self.batches = 0
        self._optimiser, self._loss, self._drawn = optimiser, loss, batches

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return next(self.model.parameters()).device

    @property
    def parts(self) -> dict[str, slice]:
        """Where in the vector the parameters are, and behind them the batch-norm statistics where they travel."""
        return vector.parts(self._parameters, self.manifest)

    def vector(self) -> Vector:
        """Return the current model, shape `(manifest.size,)`, read-only; later steps do not change it."""
        return vector.gather(self.model, self.manifest)

    def load_vector(self, values: Vector) -> None:
        """Take over a model; the optimiser's state stays.

        Raises
        ------
        ModelError
            If the vector is not one of this module and dtype.
        """
        if values.dtype != self.dtype:
            raise ModelError(f"a model vector is {values.dtype}; wanted {self.dtype}")
        vector.scatter(self.model, self.manifest, values)

    def digest(self) -> str:
        """Return the SHA-256 of the current vector and its manifest, in hexadecimal."""
        return payload.digest(self.manifest, self.vector())

    def gradient(self, round: int) -> Gradient:
        """Return the mean gradient over the samples of the round's batches; the model and the optimiser stay.

        Under policy `local`, batch-norm statistics move on: they are this peer's own.

        Raises
        ------
        NotFiniteError
            If the loss or the gradient of a batch is NaN or infinite.
        PeersError
            If the round has no batches.
        """
        total, tally = np.zeros(self._parameters.size), _Tally()
        before = vector.gather(self.model, self._travelling)
        try:
            for loss, samples in self._passes(round):
                total += samples * vector.gradient(self.model).astype(np.float64)
                tally.add(loss, samples)
            moved = vector.gather(self.model, self._travelling)
        finally:
            vector.scatter(self.model, self._travelling, before)
            self.model.zero_grad(set_to_none=True)
        loss = tally.mean(round)
        mean = (total / tally.samples).astype(self.dtype)
        return Gradient(loss, tally.samples, tally.batches, (), np.concatenate([mean, moved]))

    def apply_gradient(self, mean: Vector, round: int) -> None:
        """Step the optimiser once; batch-norm statistics that travel are taken over as they are.

        Parameters
        ----------
        mean : numpy.ndarray
            Shape `(manifest.size,)`: the averaged gradient of the parameters, then the averaged statistics.
        round : int
            From 1.

        Raises
        ------
        ModelError
            If the vector is not one of this module.
        NotFiniteError
            If the gradient or the model after the step is NaN or infinite. The model is then the one before.
        """
        vector.check(self.manifest, mean)
        if not np.isfinite(mean).all():
            raise NotFiniteError(f"the gradient of round {round} is not finite; lower the learning rate")
        size = self._parameters.size
        with self._stepping(round):
            vector.load_gradient(self.model, mean[:size])
            self._optimiser.step()
            vector.scatter(self.model, self._travelling, mean[size:])

    def local_steps(self, round: int, correct: Correction | None = None) -> LocalResult:
        """Step the optimiser on each of the round's batches.

        Parameters
        ----------
        round : int
            From 1.
        correct : callable, optional
            Corrects the gradient of each step; see `Trainer.local_steps`.

        Raises
        ------
        NotFiniteError, PeersError
            As `gradient`. The model is then the one before; the optimiser may have moved on.
        """
        tally = _Tally()
        with self._stepping(round):
            for loss, samples in self._passes(round):
                if correct is not None:
                    self._correct(correct)
                self._optimiser.step()
                tally.add(loss, samples)
            return LocalResult(tally.mean(round), tally.samples, tally.batches, ())

    def _correct(self, correct: Correction) -> None:
        values, slope = vector.gather(self.model, self._parameters), vector.gradient(self.model)
        vector.load_gradient(self.model, correct(values.astype(np.float64), slope.astype(np.float64)))

    @contextmanager
    def _stepping(self, round: int) -> Iterator[None]:
        """Go back to the model before where a step fails or leaves the range of the dtype."""
        before = self.vector()
        try:
            yield
            if not np.isfinite(self.vector()).all():
                raise NotFiniteError(f"the step of round {round} made the model infinite; lower the learning rate")
        except BaseException:
            self.load_vector(before)
            raise
        finally:
            self.model.zero_grad(set_to_none=True)

    def _passes(self, round: int) -> Iterator[tuple[float, int]]:
        """Yield the mean loss and the size of each of the round's batches; its gradient is in the parameters."""
        self.batches = 0
        for place, (inputs, targets) in enumerate(self._drawn(round)):
            self.batches += 1
            with computing(self.device), self._chance(round, place):
                loss = self._pass(inputs, targets)
            if not (math.isfinite(loss) and self._finite_gradient()):
                raise NotFiniteError(
                    "the loss or gradient of a batch is not finite; lower the learning rate or use float32",
                    f"round {round}, batch {place}, loss {loss}",
                )
            yield loss, len(targets)

    def _pass(self, inputs: Tensor, targets: Tensor) -> float:
        self.model.train().zero_grad(set_to_none=True)
        loss = self._loss(self.model(inputs.to(self.device)), targets.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    @contextmanager
    def _chance(self, round: int, place: int) -> Iterator[None]:
        text = f"{self.seed}\0{self.name}\0{round}\0{place}\0pass"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def _finite_gradient(self) -> bool:
        gradients = (parameter.grad for parameter in self.model.parameters())
        return all(bool(torch.isfinite(grad).all()) for grad in gradients if grad is not None)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return everything that a restart needs: arrays, and plain JSON values."""
        rest = {"buffers": dict(self.model.named_buffers()), "optimiser": self._optimiser.state_dict()}
        arrays, plain = nest.flatten(rest, "rest")
        return {"model": self.vector(), **arrays}, {"digest": self.digest(), "rest": plain}

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state, bit for bit.

        Raises
        ------
        ResumeError
            If it is not a state of this learner.
        """
        try:
            self.load_vector(arrays["model"])
            rest = nest.restore(values["rest"], arrays)
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(rest["buffers"][name])
            self._optimiser.load_state_dict(rest["optimiser"])
        except (ModelError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ResumeError("the checkpoint holds another model; start the run again", repr(error)) from error
        if self.digest() != values.get("digest"):
            raise ResumeError("the checkpoint's model does not have the digest that it names; start the run again")


def _dtype(model: nn.Module) -> np.dtype[Any]:
    tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    seen = {tensor.dtype for tensor in tensors}
    if len(seen) != 1 or not seen <= set(_DTYPES):
        raise ModelError(
            f"the module holds {', '.join(sorted(map(str, seen))) or 'no parameter'}; wanted float32 or float64 "
            "throughout: call its `.float()`"
        )
    return _DTYPES[seen.pop()]


def _refuse_strangers(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    stepped = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    strangers = sum(id(parameter) not in own for parameter in stepped)
    if strangers:
        raise ModelError(f"the optimiser steps {strangers} tensors that are no parameters of the module; wanted none")
