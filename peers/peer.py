"""What a protocol is given: who it is, who the others are, something that learns, and seeded chance."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from peers.requests import Message, Report

if TYPE_CHECKING:
    from computation.federation.screening import Screened, State
    from peers.learners import Learner

__all__ = ["Peer", "Worked"]


@dataclass(frozen=True)
class Worked:
    """What a peer did in a round before it talked to anybody; nothing where it failed or has nothing to learn from."""

    batches: int = 0
    samples: int = 0
    loss: float | None = None

    def report(self, round: int) -> Report:
        """Return the request that tells it."""
        return Report(round, self.batches, self.samples, self.loss)


def _raise(round: int, error: Exception) -> None:
    raise error


def _silent(sender: str, fault: str) -> None:
    """Tell nobody."""


def _unseen(round: int, before: State, done: Screened) -> None:
    """Write nothing down."""


@dataclass
class Peer:
    """One of several equals.

    Attributes
    ----------
    name : str
        Its own.
    weights : dict of float
        Of all peers, by name: samples to learn from, or one each; 0 for a peer that only evaluates.
    learner : Learner
        Its model, optimiser and data.
    rounds : int
        Of the whole run.
    seed : int
        Of the run.
    done : int
        Rounds that were over when the peer was (re)started.
    memory : dict
        What a protocol keeps between rounds besides the model: arrays and plain JSON values. It is written down with
        every closed round, and the protocol finds it again after a restart.
    patience : float
        Seconds after which another peer that says nothing is taken for gone.
    failed : callable
        Hears of a round in which this peer could not learn; raises the error by default.
    refused : callable
        Hears of a message that was dropped: its sender, and why.
    screened : callable
        Hears what was made of models that this peer judged: in which round, what was remembered before, and the rest.
    clock : callable
        Seconds that never go back; an engine with a time of its own replaces it.
    kept : list of Message
        That have come and wait to be asked for; see `mail`.
    heard : dict of float
        When something was last heard of each other, by the clock.
    """

    name: str
    weights: Mapping[str, float]
    learner: Learner
    rounds: int
    seed: int = 0
    done: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    patience: float = 60.0
    failed: Callable[[int, Exception], None] = _raise
    refused: Callable[[str, str], None] = _silent
    screened: Callable[[int, State, Screened], None] = _unseen
    clock: Callable[[], float] = time.monotonic
    kept: list[Message] = field(default_factory=list)
    heard: dict[str, float] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all peers, sorted."""
        return tuple(sorted(self.weights))

    @cached_property
    def others(self) -> tuple[str, ...]:
        """Names of all others, sorted."""
        return tuple(name for name in self.names if name != self.name)

    @cached_property
    def index(self) -> int:
        """Its own place among the names."""
        return self.names.index(self.name)

    @property
    def trains(self) -> bool:
        """Whether it has something to learn from."""
        return self.weights[self.name] > 0

    @property
    def to_do(self) -> range:
        """Rounds that are still to come, from 1."""
        return range(self.done + 1, self.rounds + 1)

    def draw(self, round: int, purpose: str, common: bool = False) -> np.random.Generator:
        """Return the chance of one round: a pure function of the run's seed, the peer, the round and the purpose.

        Parameters
        ----------
        round : int
            From 1.
        purpose : str
            Two purposes never draw the same numbers.
        common : bool
            Whether all peers shall draw the same.
        """
        text = f"{self.seed}\0{'' if common else self.name}\0{round}\0{purpose}"
        return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))

    def step(self, round: int) -> Worked:
        """Take this round's local steps; the model is the one before where that fails or there is nothing to learn."""
        if not self.trains:
            return Worked()
        try:
            result = self.learner.local_steps(round)
        except Exception as error:  # one round of one peer is not worth everybody's run
            self.failed(round, error)
            return Worked()
        return Worked(result.batches, result.samples, result.loss)
