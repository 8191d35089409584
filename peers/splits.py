"""How one data set is shared out among peers; nothing is lost, nothing is in two parts."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from computation.errors import PeersError
from peers.counts import shards

__all__ = ["Indices", "contiguous", "dirichlet", "iid"]

#: Places in the data set, ascending.
Indices: TypeAlias = npt.NDArray[np.int64]

_NOTHING: Indices = np.empty(0, np.int64)
#: A concentration above which shares do not differ in any data set that there is.
_ALIKE = 1e9


def contiguous(count: int, parts: int) -> list[Indices]:
    """Share out in the order in which things lie; sizes differ by at most one.

    Raises
    ------
    PeersError
        If there are no parts.
    """
    return [np.arange(part.start, part.stop, dtype=np.int64) for part in shards(count, parts)]


def iid(count: int, parts: int, generator: np.random.Generator) -> list[Indices]:
    """Share out by chance; sizes differ by at most one, and what parts hold by chance alone.

    Raises
    ------
    PeersError
        If there are no parts.
    """
    places = shards(count, parts)
    order = generator.permutation(count).astype(np.int64)
    return [np.sort(order[part]) for part in places]


def dirichlet(labels: npt.ArrayLike, parts: int, concentration: float, generator: np.random.Generator) -> list[Indices]:
    """Share out each class in proportions of its own, so that parts differ in size and in what they hold.

    Proportions of a class are drawn from a symmetric Dirichlet distribution over the parts, as in Yurochkin et al.,
    Bayesian Nonparametric Federated Learning of Neural Networks (2019). No part is promised anything: with a small
    concentration some may be empty.

    Parameters
    ----------
    labels : array_like, shape (things,)
        Each thing's class.
    parts : int
        How many.
    concentration : float
        Above 0. The larger, the more alike; well below 1 a class is mostly in one part.
    generator : numpy.random.Generator
        Chance; equal states give equal parts.

    Returns
    -------
    list of numpy.ndarray
        One array of places for each part.

    Raises
    ------
    PeersError
        If the concentration is out of range, labels are no list, or there are no parts.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or parts < 1:
        raise PeersError(f"labels of {labels.ndim} axes for {parts} parts; wanted 1 axis, and 1 part or more")
    if not 0 < concentration <= _ALIKE:
        raise PeersError(f"the concentration is {concentration}; wanted a number above 0, at most {_ALIKE:.0e}")
    classes, codes = np.unique(labels, return_inverse=True)
    places = [np.flatnonzero(codes == code) for code in range(len(classes))]
    portions = [_portions(mine, parts, concentration, generator) for mine in places]
    return [np.sort(np.concatenate([_NOTHING, *(portion[part] for portion in portions)])) for part in range(parts)]


def _portions(places: Indices, parts: int, concentration: float, generator: np.random.Generator) -> list[Indices]:
    """Divide one class; rounding the running sums instead of the sizes keeps their total."""
    running = np.cumsum(generator.dirichlet(np.full(parts, concentration)))[:-1]
    return np.split(generator.permutation(places), np.rint(running * len(places)).astype(np.int64))
