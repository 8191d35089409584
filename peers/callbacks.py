"""An ordinary PyTorch loop made distributed by five lines, as Keras' and Horovod's callbacks do it.

::

    with torchrun.joined(options) as group:                              # 1
        distributed = Distributed(model, optimizer, group)               # 2
        distributed.on_train_begin()                                     # 3
        for epoch in range(epochs):
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss = criterion(model(inputs), targets)
                loss.backward()
                distributed.on_batch_end(loss, len(targets))             # 4, which steps the optimizer
            print(distributed.on_epoch_end())                            # 5

Each batch is one round of a protocol; any of `peers.protocols` will do, for the step that it takes is the loop's own
gradient. What the loop did to the gradient before, clipping say, it did to its own and not to the mean.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from computation.errors import PeersError
from computation.strategies.gradient_mean import GradientMean
from computation.training.faults import NotFiniteError
from computation.wire.messages.base import MOST_ROUNDS
from peers.learners import ModuleLearner, take_whole, whole
from peers.peer import Peer
from peers.protocols.base import Rule
from peers.protocols.centred import Centred
from peers.requests import Broadcast, Mean, Report, Request, Steps

__all__ = ["Distributed", "Group"]


class Group(Protocol):
    """The peers of a run, seen by one of them; `peers.engines.torchrun.Group` is one."""

    @property
    def name(self) -> str:
        """Its own name."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all, sorted."""
        ...

    def run(self, peer: Peer, steps: Steps) -> Any:
        """Perform all that a generator asks for."""
        ...


class _Handed(ModuleLearner):
    """A learner whose gradient the loop has computed: each round is the batch that was handed over last."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, policy: str) -> None:
        super().__init__(model, optimiser, nn.functional.mse_loss, lambda round: (), policy=policy)
        self.batches = 1
        self.handed = (0.0, 0)

    def _passes(self, round: int) -> Iterator[tuple[float, int]]:
        loss, samples = self.handed
        if not (math.isfinite(loss) and self._finite_gradient()):
            raise NotFiniteError(
                "the loss or gradient of a batch is not finite; lower the learning rate", f"round {round}, loss {loss}"
            )
        yield loss, samples


class Distributed:
    """Makes a training loop one of several that come to one model.

    Parameters
    ----------
    model : torch.nn.Module
        On any device, of one dtype.
    optimiser : torch.optim.Optimizer
        Of its parameters; the loop no longer steps it.
    group : Group
        All loops of the run. They must ask alike: as many batches in an epoch, as many epochs.
    protocol : Rule, optional
        How they come to one model; averaging gradients by default.
    weights : mapping of float, optional
        How much each peer counts, by name; one each by default.
    policy : str
        Of batch-norm statistics, `sync` or `local`, as for `ModuleLearner`.
    seed : int
        Of the protocol's chance.
    patience : float
        Seconds after which another peer that says nothing is taken for gone.

    Attributes
    ----------
    drift : float
        By how much this model differed, at most, from the first peer's when that was last taken over.

    Raises
    ------
    ModelError
        As `ModuleLearner`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        group: Group,
        *,
        protocol: Rule | None = None,
        weights: Mapping[str, float] | None = None,
        policy: str = "sync",
        seed: int = 0,
        patience: float = 60.0,
    ) -> None:
        self._learner, self._group = _Handed(model, optimiser, policy), group
        self._protocol: Rule = protocol or Centred(GradientMean())
        self._peer = Peer(
            group.name,
            weights or dict.fromkeys(group.names, 1.0),
            self._learner,
            # A loop does not say beforehand how many batches it has.
            MOST_ROUNDS,
            seed=seed,
            patience=patience,
        )
        self._steps = self._protocol(self._peer)
        self._summed, self._samples, self.drift = 0.0, 0, 0.0

    def on_train_begin(self) -> None:
        """Take over the first peer's parameters and batch-norm statistics, so that all start alike."""
        self._run(self._alike())

    def on_batch_end(self, loss: Tensor | float, samples: int) -> None:
        """Make this batch one round of the protocol; call it after `backward` and instead of the optimiser's `step`.

        Parameters
        ----------
        loss : Tensor or float
            Mean over the batch.
        samples : int
            In the batch.

        Raises
        ------
        NotFiniteError
            If the loss or a gradient is NaN or infinite.
        PeersError
            If the others do not come along, or there was no sample.
        """
        value = float(loss.detach()) if isinstance(loss, Tensor) else loss
        self._learner.handed = (value, samples)
        self._run(self._round())
        self._summed, self._samples = self._summed + samples * value, self._samples + samples

    def on_epoch_end(self, **metrics: float) -> dict[str, float]:
        """Pool what was measured; where all are to hold one model, take over the first peer's.

        That changes nothing but what a protocol does not average: batch-norm statistics under policy `local`, and
        what peers' own arithmetic made of equal numbers.

        Parameters
        ----------
        **metrics : float
            This peer's, the same ones at all; what is a mean over its samples pools to the mean over all samples.

        Returns
        -------
        dict of float
            The metrics and `loss`, weighted by the samples of this epoch's batches.
        """
        pooled: dict[str, float] = self._run(self._pooled(metrics))
        self._summed, self._samples = 0.0, 0
        if self._protocol.common:
            self._run(self._alike())
        return pooled

    def on_train_end(self) -> None:
        """End with one model where each has its own: with the mean, weighted as the protocol says.

        What a protocol that waits for nobody has under way then is in no model.
        """
        self._steps.close()
        if not self._protocol.common:
            self._run(self._agreed())

    def _run(self, steps: Generator[Request, Any, Any]) -> Any:
        return self._group.run(self._peer, steps)

    def _round(self) -> Steps:
        """Let the protocol go on until it has closed one round."""
        answer: Any = None
        while True:
            request = self._steps.send(answer)
            answer = yield request
            if isinstance(request, Report) and request.closed:
                return

    def _alike(self) -> Steps:
        own = whole(self._learner)
        told = yield Broadcast(own, self._peer.names[0])
        take_whole(self._learner, told)
        self.drift = float(np.abs(told - own).max())

    def _agreed(self) -> Steps:
        mean = yield Mean(whole(self._learner), self._peer.memory.get("weight", 1.0))
        if mean is not None:
            take_whole(self._learner, mean)

    def _pooled(self, metrics: Mapping[str, float]) -> Generator[Request, Any, Any]:
        own = {**metrics, "loss": self._summed / max(self._samples, 1)}
        mean = yield Mean(np.array([own[name] for name in sorted(own)], np.float64), float(self._samples))
        if mean is None:
            raise PeersError("an epoch ended in which no peer had a batch; wanted `on_batch_end` after each batch")
        return dict(zip(sorted(own), mean.tolist(), strict=True))
