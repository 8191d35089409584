"""A trainer that is the product's at every site but one, which sends poison; for `attacks` and for the tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from computation.training.trainer import Correction, Gradient, LocalResult, Trainer
from computation.wire.payload import Vector

__all__ = ["ATTACKER", "ATTACKS", "poisoned"]

ATTACKER = "local3"

Attack = Callable[[Vector, int], Vector]


def _always(factor: float) -> Attack:
    return lambda update, round: update * update.dtype.type(factor)


def _once(factor: float) -> Attack:
    """Attack in one round only, when the learning rate is near its peak."""
    return lambda update, round: update * update.dtype.type(factor if round == 10 else 1)


#: What becomes of an honest update: of a gradient, or under federated averaging of what the model moved by.
ATTACKS: dict[str, Attack] = {
    "none": _always(1),
    "NaN": _always(float("nan")),
    "x1000": _always(1000),
    "x1000 once": _once(1000),
    "flip x10": _always(-10),
    "flip x10 once": _once(-10),
    "zeros": _always(0),
}


def poisoned(attack: str, site: str = ATTACKER) -> type[Trainer]:
    """Return the trainer; its losses, counts and words are honest, as a clever attacker's would be."""
    change = ATTACKS[attack]

    class Poisoned(Trainer):
        def gradient(self, round: int) -> Gradient:
            honest = super().gradient(round)
            if self.site != site:
                return honest
            where, values = self.parts["parameters"], np.array(honest.vector)
            values[where] = change(values[where], round)
            return Gradient(honest.loss, honest.samples, honest.batches, honest.skipped, values)

        def local_steps(self, round: int, correct: Correction | None = None) -> LocalResult:
            before = self.vector()
            honest = super().local_steps(round, correct)
            if self.site == site and attack != "none":
                self._take(before + change(self.vector() - before, round))
            return honest

    return Poisoned
