"""A round: what a site says of its contribution, and the centre's verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from computation.errors import MessageError
from computation.wire.messages.base import MOST_ROUNDS, enveloped, opened
from computation.wire.messages.evaluation import Evaluation
from computation.wire.messages.masking import Masked
from computation.wire.reader import MANY

__all__ = ["FINDINGS", "LARGE", "REASONS", "STOPS", "RoundOffer", "Verdict"]

#: Why a site does not count in a round. The wire carries one of these words and never the site's own text.
REASONS = {
    "unreadable": "no scan of the batch, or too few of all scans, could be read",
    "out-of-memory": "the device ran out of memory",
    "not-finite": "the loss or gradient was not finite",
    "failed": "an unexpected error, described in the site's own log",
    "absent": "it sent nothing",
    "repeated": "it was asked for a round once more, and came to something else than the first time",
    "masked": "it did not give what was wanted to take the masks off the round's sum",
    "outlier": "its update was many times larger than the others' and was left out",
    "opposed": "its updates pointed away from the others' in round after round and were left out",
    "drifted": "its updates were to one side of the others' in round after round and were left out",
    "stale": "its values had been sent in an earlier round and were left out",
    "twin": "its values were those of another site, too, and counted once",
    "empty": "its update changed nothing, while the others' did, and was left out",
    "excluded": "its updates were left out in too many rounds in a row, and it is out for the rest of the run",
}

#: Those among them that the centre finds out, and no site may say of itself.
FINDINGS = ("outlier", "opposed", "drifted", "stale", "twin", "empty", "excluded", "masked")

#: Why an update counts, but not as it is.
LARGE = "it was many times larger than the others'"

#: Why a training may end before the rounds that were planned.
STOPS = {
    "patience": "the pooled Dice had not risen in as many validations in a row as setting 'patience' says",
    "deadline": "the time that setting 'deadline' gives the training was over",
    "budget": "the rounds that setting 'dp_epsilon' allows were done",
}


@dataclass(frozen=True)
class RoundOffer:
    """What a site says of its contribution to one round; the values travel as a payload.

    Attributes
    ----------
    round : int
        The round, from 1.
    status : str
        `ok`, `skipped` with a `reason` from `REASONS`, or `evaluates` from a site that has no scan to train on.
    reason : str
        Empty unless `skipped`.
    samples : int
        Sub-volumes behind the contribution.
    loss : float or None
        Mean loss over them; 0 when skipped, and none under setting `dp`, since it has no noise.
    model : str
        Digest of the model that it was computed on: the proof that all sites hold the same one.
    unreadable : int
        Scans left out of this round because they could not be read.
    seconds : float
        Time the site spent on it.
    validation : Evaluation or None
        Counts of the model that `model` names, in the rounds that validate.
    masked : Masked or None
        What goes along with masked words; then the loss is 0 here and rides among these.
    """

    round: int
    status: str
    reason: str
    samples: int
    loss: float | None
    model: str
    unreadable: int = 0
    seconds: float = 0.0
    validation: Evaluation | None = None
    masked: Masked | None = None

    @classmethod
    def parse(cls, raw: Any) -> RoundOffer:
        """Read a round's offer; raises `MessageError`."""
        reader = opened("contribution", "train", raw)
        record = cls(
            round=reader.whole("round", MOST_ROUNDS, 1),
            status=reader.text("status", 10),
            reason=reader.text("reason", 20),
            samples=reader.whole("samples", MOST_ROUNDS),
            loss=reader.number_or_null("loss"),
            model=reader.digest("model"),
            unreadable=reader.whole("unreadable", MOST_ROUNDS),
            seconds=reader.number("seconds", 0.0),
            validation=reader.optional("validation", Evaluation.parse),
            masked=reader.optional("masked", Masked.parse),
        )
        reader.end()
        if record.status == "ok" and record.reason == "" and record.samples > 0:
            return record
        if record.status == "skipped" and record.reason in REASONS and record.reason not in FINDINGS:
            return record
        if record.status == "evaluates" and record.reason == "" and record.samples == 0:
            return record
        raise MessageError(
            "the contribution is neither 'ok' with at least one sample, nor 'skipped' with a known reason, nor of a "
            "site that only 'evaluates'"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("train", self)


@dataclass(frozen=True)
class Verdict:
    """What the centre made of a round.

    Attributes
    ----------
    round : int
        The round that it closes.
    void : bool
        Whether too few sites contributed: then nothing is applied and no payload travels.
    counted : tuple of str
        Sites in the combination, sorted.
    skipped : dict of str
        Reason of each site that is not.
    loss : float or None
        Weighted mean loss of the counted sites.
    model : str
        Digest that every site's model must have after applying the combination.
    validated : int
        Round whose model `dice` describes; -1 when this round brought no validation.
    dice : dict
        Pooled Dice of each class, `None` where a class has no voxel, over the sites that are whole in this validation.
    best : int
        Round of the best model so far; -1 before the first validation.
    last : bool
        Whether the training ends here. The combination of the last round is applied like any other.
    missing : dict of str
        Sites that validate and are not whole in this validation, and what is wanting: then it chooses no best model.
    stop : str
        Why it ends before the rounds that were planned, a word from `STOPS`; else empty.
    clipped : tuple of str
        Sites among the counted whose update was scaled down, sorted.
    """

    round: int
    void: bool
    counted: tuple[str, ...]
    skipped: dict[str, str]
    loss: float | None
    model: str
    validated: int = -1
    dice: dict[str, float | None] = field(default_factory=dict)
    best: int = -1
    last: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    stop: str = ""
    clipped: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Any) -> Verdict:
        """Read a verdict; raises `MessageError`."""
        reader = opened("verdict", "train", raw)
        record = cls(
            round=reader.whole("round", MOST_ROUNDS, 1),
            void=reader.flag("void"),
            counted=reader.texts("counted", MANY),
            skipped=reader.texts_by_name("skipped"),
            loss=reader.number_or_null("loss"),
            model=reader.digest("model"),
            validated=reader.whole("validated", MOST_ROUNDS, -1),
            dice=reader.shares_by_name("dice"),
            best=reader.whole("best", MOST_ROUNDS, -1),
            last=reader.flag("last"),
            missing=reader.texts_by_name("missing"),
            stop=reader.one_of("stop", ("", *STOPS)),
            clipped=reader.texts("clipped", MANY),
        )
        reader.constant("jump_to_next", record.last)
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON; `jump_to_next` is how coinstac-computation learns that a phase ends."""
        return {"jump_to_next": self.last, **enveloped("train", self)}
