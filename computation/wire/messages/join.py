"""The join: what a site offers, and the centre's plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from computation.errors import MessageError
from computation.wire.messages.base import MOST_GRID, MOST_ROUNDS, MOST_SCANS, enveloped, is_count, opened
from computation.wire.messages.masking import Masking
from computation.wire.reader import MANY, Reader

__all__ = ["JoinOffer", "Plan"]

_TRAIN, _EVALUATED = "train", ("valid", "test")
#: Facts that a site may give of its preparation or its software, each with a short name.
_MOST_FACTS, _LONGEST_FACT = 32, 40


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
        Number of scans in `train`, `valid` and `test`; in `train`, of those with a label, which decide the weight.
    labelled, voxels : dict
        Number of scans in `valid` and `test` that have a label, and of their voxels: what its evaluations may count.
    steps : int
        Batches in one pass over the training scans; 0 at a site that has none and only evaluates.
    preparation : dict of str
        How the scans were prepared, such as spacing and normalisation.
    device : str
        Kind of device, such as `cpu`.
    versions : dict of str
        Versions of the software that computes.
    masking_key : str
        Public X25519 key of this run, in hexadecimal; empty unless updates are masked and the site trains.
    key : str
        Public key with which the site signs, in hexadecimal; empty where there is no centre.
    nonce : str
        32 random bytes in hexadecimal, so that nobody can answer with the plan of an earlier run; empty likewise.
    """

    settings: dict[str, Any]
    classes: tuple[str, ...]
    scans: dict[str, int]
    labelled: dict[str, int]
    voxels: dict[str, int]
    steps: int
    preparation: dict[str, str]
    device: str
    versions: dict[str, str]
    masking_key: str = ""
    key: str = ""
    nonce: str = ""

    @property
    def trains(self) -> bool:
        """Whether the site has a scan to train on; one that has none only evaluates."""
        return self.scans[_TRAIN] > 0

    @classmethod
    def parse(cls, raw: Any) -> JoinOffer:
        """Read a join offer; raises `MessageError`."""
        reader = opened("join message", "join", raw)
        labelled = _counts(reader, "labelled", dict.fromkeys(_EVALUATED, MOST_SCANS))
        record = cls(
            settings=reader.plain_mapping("settings", 100),
            classes=reader.texts("classes", 256, 64),
            scans=_counts(reader, "scans", dict.fromkeys((_TRAIN, *_EVALUATED), MOST_SCANS)),
            labelled=labelled,
            voxels=_counts(reader, "voxels", {split: MOST_GRID * count for split, count in labelled.items()}),
            steps=reader.whole("steps", MOST_SCANS),
            preparation=reader.texts_by_name("preparation", _MOST_FACTS, _LONGEST_FACT),
            device=reader.text("device", 100),
            versions=reader.texts_by_name("versions", _MOST_FACTS, _LONGEST_FACT),
            masking_key=reader.digest_or_empty("masking_key"),
            key=reader.digest_or_empty("key"),
            nonce=reader.digest_or_empty("nonce"),
        )
        reader.end()
        record._check()
        return record

    def _check(self) -> None:
        """Refuse numbers of which one gives another the lie."""
        for split in _EVALUATED:
            if self.labelled[split] > self.scans[split] or self.voxels[split] < self.labelled[split]:
                raise MessageError(
                    f"the join message has {self.labelled[split]} labelled scans of {self.voxels[split]} voxels "
                    f"among {self.scans[split]} in {split!r}; wanted counts that can be"
                )
        if not self.trains and not any(self.labelled.values()):
            raise MessageError("the join message brings no labelled scan to train on or to evaluate; wanted one")

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("join", self)


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
    evaluators : tuple of str
        Sites among them that have no scan to train on: they apply every round and only evaluate.
    batches : dict of str to int
        Batches that each site works through in a round.
    masking : Masking or None
        Keys and weights of the sites that train, where updates are masked.
    centre : str
        Public key with which the centre signs, in hexadecimal; empty where there is no centre, as are the next two.
    keys : dict of str
        Public key of each site.
    said : dict of str
        SHA-256 of each site's signed message at the join, which tells it that its words arrived as it said them.
    """

    run: str
    rounds: int
    sites: tuple[str, ...]
    manifest: str
    model: str
    notes: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    batches: dict[str, int] = field(default_factory=dict)
    masking: Masking | None = None
    centre: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any) -> Plan:
        """Read a plan; raises `MessageError`."""
        reader = opened("plan", "plan", raw)
        record = cls(
            run=reader.text("run", 64),
            rounds=reader.whole("rounds", MOST_ROUNDS, 1),
            sites=reader.texts("sites", MANY),
            manifest=reader.digest("manifest"),
            model=reader.digest("model"),
            notes=reader.texts("notes"),
            evaluators=reader.texts("evaluators", MANY),
            batches=reader.wholes_by_name("batches", MOST_ROUNDS, 1),
            masking=reader.optional("masking", Masking.parse),
            centre=reader.digest_or_empty("centre"),
            keys=reader.digests_by_name("keys"),
            said=reader.digests_by_name("said"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("plan", self)

    @cached_property
    def recorded(self) -> dict[str, Any]:
        """The same, made once for all checkpoints, and not to be changed."""
        return self.as_json()


def _counts(reader: Reader, name: str, most: dict[str, int]) -> dict[str, int]:
    """Take an object with one count for each name, of at most so many."""
    table = reader.mapping(name, len(most))
    fits = set(table) == set(most) and all(is_count(table[key], most[key]) for key in most)
    limits = " and ".join(f"at most {limit} for {key!r}" for key, limit in most.items())
    return reader.take(name, f"counts of {limits}", fits, table)
