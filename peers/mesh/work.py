"""A task at one provider: fetch the data, learn among the others, keep the last mean whatever happens to them."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from computation.errors import MeshNetError, PeersError, public_text
from computation.federation.screening import Bounds
from computation.settings import Settings
from computation.wire.payload import Vector
from peers import message
from peers.engines import zeromq
from peers.learners import ModuleLearner
from peers.mesh import data, models
from peers.mesh.keys import Known, Pair
from peers.peer import Peer
from peers.protocols.leader import Leader
from peers.requests import Message, Report, Request, Steps, passed_on

__all__ = ["LEADER", "Work", "checked_model"]

#: What is added to the leading provider's name for its second peer, which averages and does not learn.
LEADER = ".leader"
_TOPIC = "result"


def checked_model(task: Any) -> models.Model:
    """Return the model of a `TaskRequest`; raises `PeersError` if it cannot be."""
    return models.model(task.model, task.configuration)


class _Stopped(PeersError):
    """Somebody took the task back."""


@dataclass(eq=False)
class Work:
    """One task in a thread of its own.

    Attributes
    ----------
    task : TaskRequest
        What is to be done.
    pair, known : Pair and Known
        Keys.
    folder : Path
        For the data.
    disk : float
        Bytes that they may take.
    device : str
        Where to compute.
    lease : float
        Seconds of silence after which another peer is dead.
    told : callable
        Hears what happens.
    status, reason : str
        How far it is.
    """

    task: Any
    pair: Pair
    known: Known
    folder: Path
    disk: float
    device: str = "cpu"
    lease: float = 10.0
    told: Callable[[str], None] = lambda _: None
    status: str = "fetching"
    reason: str = ""
    seconds: float = 0.0
    cycles: int = 0
    loss: float | None = None
    _began: float = 0.0
    _mean: Vector | None = None
    _learner: ModuleLearner | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self, done: Callable[[str], None]) -> threading.Thread:
        """Begin; `done` is called with the last status before anybody else hears of it."""
        thread = threading.Thread(target=self._guarded, args=(done,), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Give the task up at its next step."""
        self._over.set()

    def progress(self) -> str:
        """Return the last cycle that is over, and the loss of the batches before it, as JSON."""
        finite = self.loss is not None and math.isfinite(self.loss)
        return json.dumps({"cycle": self.cycles, "loss": self.loss if finite else None})

    def state(self) -> bytes:
        """Return the last mean as a message's bytes; nothing before there is one."""
        learner, mean = self._learner, self._mean
        if learner is None or mean is None:
            return b""
        return message.encode(Message(_TOPIC, self.cycles, mean), learner.manifest, self.pair.name, self.task.task)

    def _guarded(self, done: Callable[[str], None]) -> None:
        status = "failed"
        try:
            self._work()
            status = "complete"
        except Exception as error:
            self.reason = public_text(error)
            self.told(f"task {self.task.task} failed: {error if isinstance(error, MeshNetError) else repr(error)}")
        finally:
            done(status)
            self.status = status

    def _work(self) -> None:
        task, self._began = self.task, time.monotonic()
        account = data.Account(task.host, task.port, task.user, task.password, task.certificate)
        data.fetch(account, self.folder / "data", self.disk, self.told)
        items = TensorDataset(*map(torch.from_numpy, data.part(self.folder, "data")))
        asked = checked_model(task)
        steps = -(-len(items) // (task.batchSize * task.aggregations))
        settings: dict[str, Any] = {"batch": task.batchSize, "rate": task.learningRate, "seed": task.seed}
        learner = models.learner(asked, items, **settings, name=self.pair.name, steps=steps, device=self.device)
        self._learner, self.status = learner, "learning"
        self._among(learner)
        self.seconds = time.monotonic() - self._began

    def _among(self, learner: ModuleLearner) -> None:
        """Learn among all, and lead besides, where this provider is to."""
        names = sorted(node.id for node in self.task.assignedWorkers)
        leading = self.pair.name + LEADER
        aggregator: threading.Thread | None = None
        if leading in names:
            still = models.learner(
                checked_model(self.task),
                TensorDataset(torch.zeros(1)),
                batch=1,
                rate=1.0,
                seed=self.task.seed,
                name=leading,
            )
            aggregator = threading.Thread(target=self._quietly, args=(leading, still), daemon=True)
            aggregator.start()
        self._run(self.pair.name, learner)
        if aggregator:
            aggregator.join(self.lease)
        self._mean = learner.vector()

    def _quietly(self, name: str, learner: ModuleLearner) -> None:
        try:
            self._run(name, learner)
        except MeshNetError as error:  # the followers go on without it
            self.told(f"{name} leads no more: {error}")

    def _run(self, name: str, learner: ModuleLearner) -> None:
        nodes = {node.id: node for node in self.task.assignedWorkers}
        options = zeromq.Options(
            self.pair,
            self.known,
            {peer: node.address for peer, node in nodes.items()},
            self.task.task,
            self.lease,
            6 * self.lease,
            name=name,
            keys={peer: bytes(node.key) for peer, node in nodes.items()},
        )
        first = next((peer for peer in nodes if peer.endswith(LEADER)), "")
        weights = {peer: 0.0 if peer == first else 1.0 for peer in nodes}
        rounds = self.task.numEpochs * self.task.aggregations
        peer = Peer(name, weights, learner, rounds, seed=self.task.seed, patience=6 * self.lease)
        peer.refused = lambda sender, fault: self.told(f"dropped a message of {sender}: {fault}")
        rule = Leader(self.task.staleness, together=True, first=first, bounds=Bounds.of(Settings()))
        with zeromq.joined(options) as group:
            group.run(peer, self._watched(rule(peer), peer))

    def _watched(self, steps: Steps, peer: Peer) -> Steps:
        """Keep each mean, so that there is one to give away when the leader has gone; stop when it is asked for."""

        def see(request: Request) -> Request:
            if isinstance(request, Report) and request.loss is not None:
                self.loss = request.loss
            if isinstance(request, Report) and request.closed and peer.trains:
                mean: Vector = np.array(peer.memory["average"])
                self._mean, self.cycles = mean, request.round
                self.seconds = time.monotonic() - self._began
            if self._over.is_set():
                raise _Stopped("the task was taken back")
            return request

        return passed_on(steps, see)
