"""Batches of a data set as a pure function of the round: a restarted peer learns from those it would have had."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate

from computation.errors import PeersError

__all__ = ["Items", "Shuffled"]


class Items(Protocol):
    """What can be asked for its length and for one pair of input and target; a map-style `Dataset` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


@dataclass(frozen=True)
class Shuffled:
    """Draws batches epoch by epoch, each epoch in an order of its own; called with a round it yields that round's.

    Attributes
    ----------
    items : Items
        The peer's own data.
    size : int
        Things in a batch; the last batch of an epoch has what is left.
    seed : int
        Of the run.
    name : str
        The peer's: no two draw the same order.
    steps : int
        Batches in a round, from whatever epoch they come; 0 for a whole epoch.

    Raises
    ------
    PeersError
        If there is nothing in a batch, or a number is negative.
    """

    items: Items
    size: int
    seed: int = 0
    name: str = ""
    steps: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.steps < 0:
            raise PeersError(
                f"batches of {self.size} and {self.steps} of them in a round; wanted at least 1, and 0 or more"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which each thing occurs once."""
        return -(-len(self.items) // self.size)

    def __call__(self, round: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of the batches of a round, from 1; none where there is no data."""
        steps = self.steps if self.steps and len(self.items) else self.steps_per_epoch
        epoch, order = -1, list[int]()
        for step in range((round - 1) * steps, round * steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._order(epoch)
            first = step % self.steps_per_epoch * self.size
            inputs, targets = default_collate([self.items[place] for place in order[first : first + self.size]])
            yield inputs, targets

    def _order(self, epoch: int) -> list[int]:
        text = f"{self.seed}\0{self.name}\0{epoch}\0order"
        chance = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
        order: list[int] = chance.permutation(len(self.items)).tolist()
        return order
