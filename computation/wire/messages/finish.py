"""The end: a site's last counts and its confirmation, and the centre's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from computation.wire.messages.base import MOST_ROUNDS, enveloped, opened
from computation.wire.messages.evaluation import Evaluation

__all__ = ["FinishOffer", "Results"]


@dataclass(frozen=True)
class FinishOffer:
    """A site's word at the end: first its last counts, then that its results are in place.

    Attributes
    ----------
    step : str
        `evaluated` or `done`.
    model : str
        Digest of the site's final model.
    evaluations : dict
        Counts of the final model on `valid` and `test`.
    """

    step: str
    model: str
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any) -> FinishOffer:
        """Read a finishing message; raises `MessageError`."""
        reader = opened("finishing message", "finish", raw)
        step = reader.text("step", 10)
        table = reader.mapping("evaluations", 2)
        record = cls(
            step=reader.take("step", "evaluated or done", step in ("evaluated", "done"), step),
            model=reader.digest("model"),
            evaluations={name: Evaluation.parse(value) for name, value in table.items()},
        )
        reader.end()
        reader.take("evaluations", "valid or test", set(table) <= {"valid", "test"}, None)
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("finish", self)


@dataclass(frozen=True)
class Results:
    """The centre's last message with files: the final and the best model travel beside it.

    Attributes
    ----------
    rounds : int
        Rounds that were run.
    final, best_model : str
        Digests of the two models.
    best : int
        Round of the best model.
    dice : dict
        Pooled validation Dice of each class for the final model.
    test_dice : dict
        The same on the test scans; empty when no site has any.
    """

    rounds: int
    final: str
    best: int
    best_model: str
    dice: dict[str, float | None]
    test_dice: dict[str, float | None]

    @classmethod
    def parse(cls, raw: Any) -> Results:
        """Read the results; raises `MessageError`."""
        reader = opened("results", "finish", raw)
        record = cls(
            rounds=reader.whole("rounds", MOST_ROUNDS, 1),
            final=reader.digest("final"),
            best=reader.whole("best", MOST_ROUNDS),
            best_model=reader.digest("best_model"),
            dice=reader.numbers_by_name("dice"),
            test_dice=reader.numbers_by_name("test_dice"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("finish", self)
