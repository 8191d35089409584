"""The end: a site's last counts and its confirmation, and the centre's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from computation.wire.messages.base import MOST_ROUNDS, enveloped, opened
from computation.wire.messages.evaluation import Evaluation
from computation.wire.messages.round import STOPS

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
        table = reader.mapping("evaluations", 2)
        record = cls(
            step=reader.one_of("step", ("evaluated", "done")),
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
    missing, test_missing : dict of str
        Sites whose scans are not, or not all, in `dice` and in `test_dice`, and what is wanting.
    chosen : bool
        Whether a validation chose the best model; it is the last one otherwise.
    stop : str
        As in the last `Verdict`.
    """

    rounds: int
    final: str
    best: int
    best_model: str
    dice: dict[str, float | None]
    test_dice: dict[str, float | None]
    missing: dict[str, str] = field(default_factory=dict)
    test_missing: dict[str, str] = field(default_factory=dict)
    chosen: bool = True
    stop: str = ""

    @classmethod
    def parse(cls, raw: Any) -> Results:
        """Read the results; raises `MessageError`."""
        reader = opened("results", "finish", raw)
        record = cls(
            rounds=reader.whole("rounds", MOST_ROUNDS, 1),
            final=reader.digest("final"),
            best=reader.whole("best", MOST_ROUNDS),
            best_model=reader.digest("best_model"),
            dice=reader.shares_by_name("dice"),
            test_dice=reader.shares_by_name("test_dice"),
            missing=reader.texts_by_name("missing"),
            test_missing=reader.texts_by_name("test_missing"),
            chosen=reader.flag("chosen"),
            stop=reader.one_of("stop", ("", *STOPS)),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("finish", self)
