"""The JSON half of every message: typed, versioned, and read by a fixed schema at both ends.

Each message is a frozen record with `as_json` and `parse`. `parse` takes what another machine sent and returns the
record or raises `MessageError`; it never fails in another way, never keeps an unknown key, and never lets a number that
is not finite through. No message has a field for a path, a subject or free text from a data folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from computation.errors import MessageError
from computation.reader import MANY, Reader

__all__ = [
    "PROTOCOL",
    "REASONS",
    "Evaluation",
    "FinishOffer",
    "JoinOffer",
    "Plan",
    "Results",
    "RoundOffer",
    "Verdict",
]

#: Version of this protocol; sites that speak another one are refused at join.
PROTOCOL = 1

#: Why a site may skip a round. The wire carries one of these words and never the site's own text.
REASONS = {
    "unreadable": "no scan of the batch, or too few of all scans, could be read",
    "out-of-memory": "the device ran out of memory",
    "not-finite": "the loss or gradient was not finite",
    "failed": "an unexpected error, described in the site's own log",
    "absent": "it sent nothing",
}

_MOST_ROUNDS = 2**31 - 1
_MOST_VOXELS = 2**53


@dataclass(frozen=True)
class Evaluation:
    """Voxel counts of one model over one split of one site: they add up over sites, ratios do not.

    Attributes
    ----------
    round : int
        The model is the one after this round; 0 is the initial model.
    intersection, predicted, truth : tuple of int
        Voxels of each class, summed over the split's scans.
    scans : int
        Scans counted.
    """

    round: int
    intersection: tuple[int, ...]
    predicted: tuple[int, ...]
    truth: tuple[int, ...]
    scans: int

    @classmethod
    def parse(cls, raw: Any) -> Evaluation:
        """Read one evaluation; raises `MessageError`."""
        reader = Reader("evaluation", raw)
        rows = {}
        for name in ("intersection", "predicted", "truth"):
            value = reader.pop(name)
            fits = isinstance(value, list) and 2 <= len(value) <= 256 and all(map(_is_count, value))
            rows[name] = reader.take(name, "a list of voxel counts", fits, tuple(value) if fits else ())
        record = cls(reader.whole("round", _MOST_ROUNDS), **rows, scans=reader.whole("scans", _MOST_ROUNDS))
        reader.end()
        if len(set(map(len, rows.values()))) != 1:
            raise MessageError("the evaluation has lists of different lengths; wanted one count for each class")
        if any(i > min(p, t) for i, p, t in zip(*rows.values(), strict=True)):
            raise MessageError("the evaluation counts more voxels in common than there are; wanted true counts")
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return _plain(self)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_VOXELS


def _evaluation(reader: Reader, name: str) -> Evaluation | None:
    raw = reader.pop(name)
    return None if raw is None else Evaluation.parse(raw)


@dataclass(frozen=True)
class JoinOffer:
    """A site's first message: what it was told, and what it brings.

    Attributes
    ----------
    settings : dict
        The owner's settings as this site received them.
    classes : tuple of str
        Label names stored in the site's database.
    scans : dict
        Number of scans in `train`, `valid` and `test`.
    steps : int
        Batches in one pass over the training scans.
    preparation : dict of str
        How the scans were prepared, such as spacing and normalisation.
    device : str
        Kind of device, such as `cpu`.
    versions : dict of str
        Versions of the software that computes.
    notes : tuple of str
        Defaults and fallbacks that apply at this site, from a fixed vocabulary.
    """

    settings: dict[str, Any]
    classes: tuple[str, ...]
    scans: dict[str, int]
    steps: int
    preparation: dict[str, str]
    device: str
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Any) -> JoinOffer:
        """Read a join offer; raises `MessageError`."""
        reader = Reader("join message", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "join")
        scans = reader.mapping("scans", 3)
        fits = set(scans) == {"train", "valid", "test"} and all(map(_is_count, scans.values()))
        record = cls(
            settings=reader.mapping("settings", 100),
            classes=reader.texts("classes", 256, 64),
            scans=reader.take("scans", "counts of train, valid and test scans", fits, scans),
            steps=reader.whole("steps", _MOST_ROUNDS, 1),
            preparation=reader.texts_by_name("preparation"),
            device=reader.text("device", 100),
            versions=reader.texts_by_name("versions"),
            notes=reader.texts("notes", 100),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return {"protocol": PROTOCOL, "phase": "join", **_plain(self)}


@dataclass(frozen=True)
class Plan:
    """The centre's answer to the join: the one initial model and the course of the run.

    Attributes
    ----------
    run : str
        Name of this run, so that nobody resumes another one.
    rounds : int
        Rounds to come.
    sites : tuple of str
        Sites taking part, sorted.
    manifest, model : str
        Digests of the model's shapes and of its values; the values travel as a payload.
    notes : tuple of str
        Differences between sites that are allowed but not hidden.
    """

    run: str
    rounds: int
    sites: tuple[str, ...]
    manifest: str
    model: str
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Any) -> Plan:
        """Read a plan; raises `MessageError`."""
        reader = Reader("plan", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "plan")
        record = cls(
            run=reader.text("run", 64),
            rounds=reader.whole("rounds", _MOST_ROUNDS, 1),
            sites=reader.texts("sites", MANY),
            manifest=reader.digest("manifest"),
            model=reader.digest("model"),
            notes=reader.texts("notes"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return {"protocol": PROTOCOL, "phase": "plan", **_plain(self)}


@dataclass(frozen=True)
class RoundOffer:
    """What a site says of its contribution to one round; the values travel as a payload.

    Attributes
    ----------
    round : int
        The round, from 1.
    status : str
        `ok`, or `skipped` with a `reason` from `REASONS`.
    reason : str
        Empty when `ok`.
    samples : int
        Sub-volumes behind the contribution.
    loss : float
        Mean loss over them; 0 when skipped.
    model : str
        Digest of the model that it was computed on: the proof that all sites hold the same one.
    unreadable : int
        Scans left out of this round because they could not be read.
    seconds : float
        Time the site spent on it.
    validation : Evaluation or None
        Counts of the model that `model` names, in the rounds that validate.
    """

    round: int
    status: str
    reason: str
    samples: int
    loss: float
    model: str
    unreadable: int = 0
    seconds: float = 0.0
    validation: Evaluation | None = None

    @classmethod
    def parse(cls, raw: Any) -> RoundOffer:
        """Read a round's offer; raises `MessageError`."""
        reader = Reader("contribution", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "train")
        record = cls(
            round=reader.whole("round", _MOST_ROUNDS, 1),
            status=reader.text("status", 10),
            reason=reader.text("reason", 20),
            samples=reader.whole("samples", _MOST_ROUNDS),
            loss=reader.number("loss"),
            model=reader.digest("model"),
            unreadable=reader.whole("unreadable", _MOST_ROUNDS),
            seconds=reader.number("seconds"),
            validation=_evaluation(reader, "validation"),
        )
        reader.end()
        if record.status == "ok" and record.reason == "" and record.samples > 0:
            return record
        if record.status == "skipped" and record.reason in REASONS:
            return record
        raise MessageError(
            "the contribution is neither 'ok' with at least one sample nor 'skipped' with a known reason"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return {"protocol": PROTOCOL, "phase": "train", **_plain(self)}


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
        Pooled Dice of each class, `None` where a class has no voxel.
    best : int
        Round of the best model so far; -1 before the first validation.
    last : bool
        Whether the training ends here. The combination of the last round is applied like any other.
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

    @classmethod
    def parse(cls, raw: Any) -> Verdict:
        """Read a verdict; raises `MessageError`."""
        reader = Reader("verdict", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "train")
        record = cls(
            round=reader.whole("round", _MOST_ROUNDS, 1),
            void=reader.flag("void"),
            counted=reader.texts("counted", MANY),
            skipped=reader.texts_by_name("skipped"),
            loss=reader.number_or_null("loss"),
            model=reader.digest("model"),
            validated=reader.whole("validated", _MOST_ROUNDS, -1),
            dice=reader.numbers_by_name("dice"),
            best=reader.whole("best", _MOST_ROUNDS, -1),
            last=reader.flag("last"),
        )
        reader.constant("jump_to_next", record.last)
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON; `jump_to_next` is how coinstac-computation learns that a phase ends."""
        return {"protocol": PROTOCOL, "phase": "train", "jump_to_next": self.last, **_plain(self)}


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
        reader = Reader("finishing message", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "finish")
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
        return {"protocol": PROTOCOL, "phase": "finish", **_plain(self)}


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
        reader = Reader("results", raw)
        reader.constant("protocol", PROTOCOL)
        reader.constant("phase", "finish")
        record = cls(
            rounds=reader.whole("rounds", _MOST_ROUNDS, 1),
            final=reader.digest("final"),
            best=reader.whole("best", _MOST_ROUNDS),
            best_model=reader.digest("best_model"),
            dice=reader.numbers_by_name("dice"),
            test_dice=reader.numbers_by_name("test_dice"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return {"protocol": PROTOCOL, "phase": "finish", **_plain(self)}


def _plain(record: Any) -> dict[str, Any]:
    """Return a record's fields as JSON has them; `dataclasses.asdict` would copy every value deeply, every round."""
    return {item.name: _listed(getattr(record, item.name)) for item in fields(record)}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return _plain(value) if isinstance(value, Evaluation) else value
