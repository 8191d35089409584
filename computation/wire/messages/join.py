"""The join: what a site offers, and the centre's plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from computation.wire.messages.base import MOST_ROUNDS, enveloped, is_count, opened
from computation.wire.reader import MANY

__all__ = ["JoinOffer", "Plan"]


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
    steps : int
        Batches in one pass over the training scans.
    preparation : dict of str
        How the scans were prepared, such as spacing and normalisation.
    device : str
        Kind of device, such as `cpu`.
    versions : dict of str
        Versions of the software that computes.
    """

    settings: dict[str, Any]
    classes: tuple[str, ...]
    scans: dict[str, int]
    steps: int
    preparation: dict[str, str]
    device: str
    versions: dict[str, str]

    @classmethod
    def parse(cls, raw: Any) -> JoinOffer:
        """Read a join offer; raises `MessageError`."""
        reader = opened("join message", "join", raw)
        scans = reader.mapping("scans", 3)
        fits = set(scans) == {"train", "valid", "test"} and all(map(is_count, scans.values())) and scans["train"] > 0
        record = cls(
            settings=reader.mapping("settings", 100),
            classes=reader.texts("classes", 256, 64),
            scans=reader.take("scans", "counts of train, valid and test scans, one of them to train on", fits, scans),
            steps=reader.whole("steps", MOST_ROUNDS, 1),
            preparation=reader.texts_by_name("preparation"),
            device=reader.text("device", 100),
            versions=reader.texts_by_name("versions"),
        )
        reader.end()
        return record

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
        reader = opened("plan", "plan", raw)
        record = cls(
            run=reader.text("run", 64),
            rounds=reader.whole("rounds", MOST_ROUNDS, 1),
            sites=reader.texts("sites", MANY),
            manifest=reader.digest("manifest"),
            model=reader.digest("model"),
            notes=reader.texts("notes"),
        )
        reader.end()
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the message as plain JSON."""
        return enveloped("plan", self)
