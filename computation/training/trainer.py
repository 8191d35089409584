"""One site's learning: its model, optimiser, schedule, scans and device. It knows nothing of other sites.

A round is `local_steps` batches, unless the trainer is told another number. Batch, dropout and learning rate are pure
functions of the seed, the site and the number of the batch or round, so a restarted trainer computes the bits of the
unbroken run.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from computation.errors import PrivacyError, ScanError
from computation.model import vector
from computation.model.architecture import Architecture
from computation.scans.drawing.prefetch import Prefetcher
from computation.scans.drawing.sampling import Batch, PatchSampler, Skipped
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.settings import Settings
from computation.training import inference, loss
from computation.training.device import arithmetic, autocast, computing, decide
from computation.training.faults import NotFiniteError
from computation.training.learner import Learner
from computation.training.metrics import Counts
from computation.training.optimiser import Floats
from computation.training.privacy.mechanism import Mechanism
from computation.training.sampler import NoScans, patch_sampler, trains
from computation.wire.payload import Vector

__all__ = ["Correction", "Gradient", "LocalResult", "Sampler", "Trainer"]

#: Turns the gradient of a local step into the one to step with: from the parameters and their gradient, in float64.
Correction: TypeAlias = Callable[[Floats, Floats], Floats]


class Sampler(Protocol):
    """Where batches come from; a `PatchSampler` is one."""

    @property
    def samples(self) -> int:
        """Scans in an epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    def batch(self, step: int) -> Batch:
        """Draw batch number `step`, from 0; the same one whenever asked. Raises `ScanError` if no scan is readable."""


@dataclass(frozen=True, eq=False)
class LocalResult:
    """What a round of local steps was made of; the model is the trainer's.

    Attributes
    ----------
    loss : float
        Mean over the samples.
    samples : int
        Sub-volumes learnt from.
    batches : int
        Batches done; fewer than the round's where the time limit or unreadable scans cut the round short.
    skipped : tuple of Skipped
        Scans left out.
    """

    loss: float
    samples: int
    batches: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, eq=False)
class Gradient(LocalResult):
    """The gradient of one round.

    Attributes
    ----------
    vector : numpy.ndarray
        Shape `(manifest.size,)`: mean gradient over the samples, then the batch-norm statistics after the round's
        batches under policy `sync`.
    """

    vector: Vector


class Trainer(Learner):
    """A learner with scans and a device.

    Parameters
    ----------
    architecture, settings, rounds
        As for `Learner`.
    store : Store
        The site's scans.
    site : str
        Its name: no two sites draw the same random numbers.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    batches : int, optional
        Batches in a round, other than the settings' `local_steps`.
    sampler : Sampler, optional
        Replaces the one that draws from the store's training scans.
    clock : callable
        Seconds that never go back.

    Attributes
    ----------
    choice : Choice
        The device, and how it was come by.
    arithmetic : str
        How it computes, in one line for the journal.
    batches : int
        Batches in a round.
    deadline : float or None
        Moment on the clock after which a round ends with the batches that it has; at least one is always done.
    skipped : list of Skipped
        Scans left out of the latest round's batches; scan -1 stands for all the scans of a batch.
    fallbacks : set of str
        What did not go as it should, a sentence each, when scans were labelled and where a round must not show it;
        whoever tells it takes it out.
    privacy : Mechanism or None
        What makes gradients private; must be set where the settings want that, or there is no gradient.

    Raises
    ------
    DeviceError
        If the device is not there, or has no room for the network.
    SettingsError
        If sub-volumes cannot be drawn as the settings want them.
    """

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        rounds: int,
        *,
        store: Store,
        site: str,
        device: str = "auto",
        batches: int | None = None,
        sampler: Sampler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        chosen = decide(device)
        with computing(chosen.device):
            super().__init__(architecture, settings, rounds, device=chosen.device)
        self.choice, self.arithmetic = chosen, arithmetic(chosen.device, settings.precision)
        self.store, self.site, self.clock = store, site, clock
        self.batches = batches or settings.local_steps
        self.deadline: float | None = None
        self.skipped: list[Skipped] = []
        self.fallbacks: set[str] = set()
        self.privacy: Mechanism | None = None
        self._loss = loss.criterion(settings)
        self._sampler: Sampler = sampler or _drawing(store, settings, site)

    def close(self) -> None:
        """Stop reading ahead; call it before the store is closed."""
        if isinstance(self._sampler, Prefetcher):
            self._sampler.close()

    @property
    def samples(self) -> int:
        """Training scans."""
        return self._sampler.samples

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which each training scan occurs once."""
        return self._sampler.steps_per_epoch

    def gradient(self, round: int) -> Gradient:
        """Return the mean gradient over the round's batches; the vector and the optimiser stay as they are.

        Under policy `local`, batch-norm statistics move on: they are this site's own.

        Parameters
        ----------
        round : int
            From 1.

        Raises
        ------
        ScanError
            If no scan of any batch could be read.
        DeviceError
            If the device is full.
        NotFiniteError
            If the loss or the gradient is NaN or infinite.
        PrivacyError
            If the settings want a private gradient, and there is no mechanism or it must not answer.
        """
        if self.settings.dp:
            return self._private_gradient(round)
        total = np.zeros(self._parameters.size)
        summed, samples, batches = 0.0, 0, 0
        try:
            for step, batch in self._batches(round):
                value, grad = self._backward(step, batch)
                total += len(batch.scans) * grad.astype(np.float64)
                summed, samples, batches = summed + len(batch.scans) * value, samples + len(batch.scans), batches + 1
            moved = vector.gather(self._network, self.manifest)[self._parameters.size :]
        finally:
            self._stale = True
        mean = (total / samples).astype(self.dtype)
        return Gradient(summed / samples, samples, batches, tuple(self.skipped), np.concatenate([mean, moved]))

    def _private_gradient(self, round: int) -> Gradient:
        """Return a gradient that hides each scan; what goes with it is public, and its loss, which is not, is 0."""
        if self.privacy is None or self._parameters.size != self.manifest.size:
            raise PrivacyError(
                "there is no noise for this gradient under setting 'dp'; wanted a mechanism and no statistics"
            )
        self.skipped = []
        size = self._parameters.size
        try:
            mean = self.privacy.mean(lambda scan: self._scan_gradient(scan, round), size, self.digest(), round)
        finally:
            self._stale = True
        if self.privacy.lost:
            self.fallbacks.add(
                "a training scan could not be read or its gradient was not finite: it counted as nothing"
            )
        return Gradient(0.0, self.batches * self.settings.batch_size, self.batches, (), mean.astype(self.dtype))

    def _scan_gradient(self, scan: int, round: int) -> Vector:
        """Return the mean gradient over a round's sub-volumes of one training scan; a batch has no others."""
        assert isinstance(self._sampler, PatchSampler)
        most = self.settings.batch_size
        batch = self._sampler.of_scan(scan, range(round * most, (round + 1) * most))
        self._check_labels(batch)
        return self._backward(round * self.samples + scan, batch)[1]

    def local_steps(self, round: int, correct: Correction | None = None) -> LocalResult:
        """Step the optimiser on each of the round's batches; the model is the trainer's afterwards.

        Parameters
        ----------
        round : int
            From 1; all its steps have the learning rate of the round.
        correct : callable, optional
            Corrects the gradient of each step; neither of the arrays that it is given may be changed.

        Raises
        ------
        ScanError, DeviceError, NotFiniteError
            As `gradient`. The vector is then the one before; the optimiser may have moved on.
        """
        summed, samples, batches = 0.0, 0, 0
        values = self._values[: self._parameters.size]
        if self.settings.dp:
            raise PrivacyError("local steps have no noise under setting 'dp'; wanted strategy 'gradient-mean'")
        try:
            for step, batch in self._batches(round):
                value, grad = self._backward(step, batch)
                if correct is not None:
                    grad = correct(values.astype(np.float64), grad.astype(np.float64))
                values = self._step(values, grad, round)
                vector.scatter(self._network, self._parameters, values)
                summed, samples, batches = summed + len(batch.scans) * value, samples + len(batch.scans), batches + 1
            self._take(vector.gather(self._network, self.manifest))
        finally:
            self._stale = True
        return LocalResult(summed / samples, samples, batches, tuple(self.skipped))

    def _batches(self, round: int) -> Iterator[tuple[int, Batch]]:
        """Yield the round's batches with their numbers, leaving out the unreadable, until the deadline."""
        self.skipped = []
        done = False
        first = (round - 1) * self.batches
        for step in range(first, first + self.batches):
            if done and self.deadline is not None and self.clock() >= self.deadline:
                return
            try:
                batch = self._sampler.batch(step)
                self._check_labels(batch)
            except ScanError as fault:
                # Which scans they were, only the fault's private half knows.
                self.skipped.append(Skipped(-1, _code(fault)))
                continue
            self.skipped.extend(batch.skipped)
            yield step, batch
            done = True
        if not done:
            raise ScanError(
                f"no scan of round {round} could be read; `coinstac-meshnet inspect` says which are damaged",
                f"skipped: {self.skipped}",
            )

    def _check_labels(self, batch: Batch) -> None:
        # On a GPU an index outside ends the process's use of the device, so it is refused here; by NumPy, because
        # waking torch's threads takes longer than a sub-volume's labels.
        labels = batch.labels.numpy()
        if not 0 <= labels.min() <= labels.max() < self.architecture.classes:
            raise ScanFault(Fault.LABEL, f"scans {batch.scans}")

    def _backward(self, step: int, batch: Batch) -> tuple[float, Vector]:
        """Return the mean loss of a batch and its gradient, in the vector's dtype whatever the precision."""
        with computing(self.device):
            value, grad = self._pass(step, batch)
        if not (math.isfinite(value) and np.isfinite(grad).all()):
            raise NotFiniteError(
                "the loss or gradient of a batch is not finite; lower 'learning_rate' or use float32",
                f"batch {step}, scans {batch.scans}, loss {value}",
            )
        return value, grad

    def _pass(self, step: int, batch: Batch) -> tuple[float, Vector]:
        # In a frame of its own, which `computing` can clear when memory runs out.
        model = self.model.train()
        model.seed_dropout(self._seed(step))
        model.zero_grad(set_to_none=True)
        with autocast(self.device, self.settings.precision):
            scores = model(batch.images.to(model.head.weight))
        mean = self._loss(scores, batch.labels.to(self.device))
        mean.backward()  # type: ignore[no-untyped-call]
        value, grad = float(mean.detach()), vector.gradient(model)
        model.zero_grad(set_to_none=True)
        return value, grad

    def _seed(self, step: int) -> int:
        """Return the seed of one batch's dropout."""
        text = f"{self.settings.seed}\0{self.site}\0{step}\0dropout"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def predict(self, scan: Scan) -> np.ndarray:
        """Label one scan of the store with the network as it stands, on the tiles that the settings call for."""
        tile = inference.learnt_tile(self.settings)
        how = self.settings.precision
        return inference.predict(self.model, self.store, scan, precision=how, tile=tile, told=self.fallbacks.add)

    def evaluate(self, split: str) -> Counts | None:
        """Count voxels over the labelled scans of one part of the split, with the current model.

        Parameters
        ----------
        split : str
            `train`, `valid` or `test`.

        Returns
        -------
        Counts or None
            None if the part has no labelled scan. Unreadable scans are left out and counted as skipped.

        Raises
        ------
        ScanError
            If the part has scans and none can be read.
        DeviceError
            If the device is full.
        """
        scans = [scan for scan in self.store.scans(split) if scan.labelled]
        total = Counts.none(self.architecture.classes)
        for scan in scans:
            total += self._counted(scan)
        if scans and not total.scans:
            raise ScanError(f"none of the {len(scans)} scans of split {split!r} could be read")
        return total if scans else None

    def _counted(self, scan: Scan) -> Counts:
        try:
            truth = self.store.read_label(scan, (0, 0, 0), scan.shape)
            return Counts.of(self.predict(scan), truth, self.architecture.classes)
        except ScanError:
            return Counts.none(self.architecture.classes, skipped=(scan.key,))


def _drawing(store: Store, settings: Settings, site: str) -> Sampler:
    """Draw the store's training scans, one batch ahead; nothing where it has none, and the site only evaluates."""
    if settings.dp and trains(store):
        return patch_sampler(store, settings, site=site, batch_size=1)
    return Prefetcher(patch_sampler(store, settings, site=site)) if trains(store) else NoScans()


def _code(fault: ScanError) -> str:
    """Return the reason code of an unreadable scan."""
    return (fault.fault if isinstance(fault, ScanFault) else Fault.UNREADABLE).value
