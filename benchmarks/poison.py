"""A trainer that is the product's at every site but one, which sends poison; for `attacks` and the tests.

What it sends is tried by `screened` and `liars` too, and ALIE by `rules`. The attacker knows what the honest sites
offer in the same round, as no site of a run does: the sites' trainers are in one process, and the attacker's is the
last to be called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from computation.scans.drawing.sampling import Batch
from computation.training.trainer import Correction, Gradient, LocalResult, Trainer
from computation.wire.payload import Vector

__all__ = ["ATTACKER", "ATTACKS", "Seen", "little", "poisoned"]

ATTACKER = "local3"

#: Deviations that "a little is enough" stays within; at 1 of 5 the paper's own formula gives none, which is the mean.
_LITTLE = 1.5
#: Deviations of one who knows how much drift the product lets pass, as a fifth of five.
_LESS = 0.9
#: Times the honest mean, turned round: one in five so turns the mean of all round, at a size that is no outlier's.
_TURNED = 5.0


@dataclass
class Seen:
    """What an attacker goes by, in float64.

    Attributes
    ----------
    round : int
        The round.
    origin : numpy.ndarray
        What updates are measured from.
    own : numpy.ndarray
        The honest values that it would have offered.
    others : list of numpy.ndarray
        The honest sites' values of this round, in the order of the sites.
    first : numpy.ndarray
        Its own honest values of the first round.
    """

    round: int
    origin: NDArray[np.float64]
    own: NDArray[np.float64]
    others: list[NDArray[np.float64]]
    first: NDArray[np.float64]


#: Returns the values that are offered.
Attack = Callable[[Seen], NDArray[np.float64]]


def _always(factor: float) -> Attack:
    return lambda seen: seen.origin + factor * (seen.own - seen.origin)


def _once(factor: float) -> Attack:
    """Attack in one round only, when the learning rate is near its peak."""
    return lambda seen: _always(factor if seen.round == 10 else 1)(seen)


def little(others: Sequence[NDArray[np.float64]], deviations: float = _LITTLE) -> NDArray[np.float64]:
    """Return what is as far from the mean of the others as an honest site might be."""
    away: NDArray[np.float64] = np.mean(others, axis=0) - deviations * np.std(others, axis=0)
    return away


#: What is offered instead of honest values: of a gradient, or under federated averaging of a model.
ATTACKS: dict[str, Attack] = {
    "none": _always(1),
    "NaN": _always(float("nan")),
    "Inf": _always(float("inf")),
    "x1000": _always(1000),
    "x1000 once": _once(1000),
    "flip": _always(-1),
    "flip x10": _always(-10),
    "flip x10 once": _once(-10),
    "zeros": _always(0),
    "stale": lambda seen: seen.first,
    # Baruch et al. 2019, arXiv 1902.06156: as far from the mean as honest sites are.
    "ALIE": lambda seen: little(seen.others),
    "ALIE less": lambda seen: little(seen.others, _LESS),
    # Xie et al. 2020, arXiv 1903.03936.
    "inner product": lambda seen: seen.origin - _TURNED * (np.mean(seen.others, axis=0) - seen.origin),
    # Karimireddy et al. 2022, arXiv 2006.09365: always the same honest site's, so that it counts twice.
    "mimic": lambda seen: seen.others[0],
    # It learns to call the first class the last one, and so on.
    "labels": _always(1),
}


@dataclass
class _Room:
    """The process that all trainers share."""

    round: int = 0
    values: list[NDArray[np.float64]] = field(default_factory=list)
    first: NDArray[np.float64] | None = None

    def tell(self, round: int, values: Vector) -> None:
        if round != self.round:
            self.round, self.values = round, []
        self.values.append(values.astype(np.float64))

    def change(self, attack: Attack, round: int, values: Vector, origin: Vector) -> Vector:
        """Return what the attacker offers instead of `values`."""
        own = values.astype(np.float64)
        self.first = own if self.first is None else self.first
        with np.errstate(all="ignore"):
            turned = attack(Seen(round, origin.astype(np.float64), own, self.values, self.first))
            return turned.astype(values.dtype)


def poisoned(attack: str, site: str = ATTACKER) -> type[Trainer]:
    """Return the trainer; its losses, counts and words are honest, as a clever attacker's would be.

    Parameters
    ----------
    attack : str
        One of `ATTACKS`.
    site : str
        Who attacks; the last of the sites where the attack wants to know the others' updates.
    """
    room = _Room()

    class Poisoned(Trainer):
        def gradient(self, round: int) -> Gradient:
            honest = super().gradient(round)
            where, values = self.parts["parameters"], np.array(honest.vector)
            values[where] = self._offered(round, values[where], np.zeros_like(values[where]))
            return Gradient(honest.loss, honest.samples, honest.batches, honest.skipped, values)

        def local_steps(self, round: int, correct: Correction | None = None) -> LocalResult:
            before = self.vector()
            honest = super().local_steps(round, correct)
            if attack != "none":
                self._take(self._offered(round, self.vector(), before))
            return honest

        def _offered(self, round: int, values: Vector, origin: Vector) -> Vector:
            if self.site == site:
                return room.change(ATTACKS[attack], round, values, origin)
            room.tell(round, values)
            return values

        def _batches(self, round: int) -> Iterator[tuple[int, Batch]]:
            for step, batch in super()._batches(round):
                turned = attack == "labels" and self.site == site
                last = self.architecture.classes - 1
                yield step, replace(batch, labels=last - batch.labels) if turned else batch

    return Poisoned
