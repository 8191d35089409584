"""What every arm hands back, whoever trained: a model of any kind that labels scans, and what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.oasis.clock import Spent
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.training.metrics import Counts, dice

Dices = tuple[float | None, ...]
#: Maps a store and one of its scans to labels.
Label = Callable[[Store, Scan], NDArray[np.integer]]
#: Maps them to the probability of each class in each voxel, float32 of shape `(classes, *scan.shape)`.
Shares = Callable[[Store, Scan], NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """A trained model.

    Attributes
    ----------
    site : str
        Whose model it is; empty for one that all share.
    shares : callable
        Gives the probability of each class in each voxel of a scan of any store.
    spent : Spent
        Time that training took, all sites one after another on this machine.
    rounds, steps : int
        Exchanges, and optimiser steps of each model.
    sent, received : int
        Bytes that each site sends and receives in the whole run, headers included.
    parameters : int
        Values that training changes.
    multiple : float
        The largest update of a site, as a multiple of the others'; 0 where nothing is federated.
    touched : int
        Updates that screening clipped or left out.
    """

    site: str
    shares: Shares
    spent: Spent
    rounds: int
    steps: int
    sent: int
    received: int
    parameters: int
    multiple: float = 0.0
    touched: int = 0

    def label(self, store: Store, scan: Scan) -> NDArray[np.integer]:
        """Return the most probable class of each voxel."""
        return self.shares(store, scan).argmax(0)


@dataclass(frozen=True)
class Point:
    """Validation Dice in the course of training: mean over people of each class, background first."""

    round: int
    seconds: float
    loss: float
    dices: Dices


def compare(label: Label, store: Store, split: str, classes: int) -> dict[str, Dices]:
    """Return the Dice of each class for each person of a split, as something labels them."""
    found = {}
    for scan in store.scans(split):
        truth = store.read_label(scan, (0, 0, 0), scan.shape)
        found[scan.subject] = dice(Counts.of(label(store, scan), truth, classes))
    return found
