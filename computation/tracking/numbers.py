"""The numbers of one round, as one node saw it: the common currency of journal, table, curves and progress line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["RoundNumbers", "SiteNumbers", "foreground", "mean"]

#: Dice of each class by name; `None` where the class has no voxel in truth or prediction.
Dice = Mapping[str, float | None]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, or none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def foreground(dice: Dice, classes: Sequence[str]) -> float | None:
    """Return the mean Dice of all classes but the first, which is the background."""
    return mean([dice.get(name) for name in classes[1:]])


@dataclass(frozen=True)
class SiteNumbers:
    """What the centre saw of one site in one round.

    Attributes
    ----------
    reason : str
        Why the site did not count; empty when it did.
    loss : float or None
        Its mean training loss.
    samples : int
        Sub-volumes behind its contribution.
    unreadable : int
        Scans it left out because they could not be read.
    seconds : float
        Time it says it spent.
    received : int
        Bytes of its message and payload.
    multiple : float
        Size of its update, as a multiple of the others'; 0 where it was not measured.
    scale : float
        What its update was multiplied by: less than 1 is clipped, 0 left out.
    cosine : float
        Where its update pointed, as the median of its cosines to the others'; 0 where it was not measured.
    drift : float
        How far to one side of the others' its updates were led of late; 0 where it was not measured.
    """

    reason: str = ""
    loss: float | None = None
    samples: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    received: int = 0
    multiple: float = 0.0
    scale: float = 1.0
    cosine: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True)
class RoundNumbers:
    """One round. What a node does not know keeps its default, and is left empty wherever it is shown.

    Attributes
    ----------
    round : int
        The round, from 1.
    digest : str
        SHA-256 of this node's model after the round.
    loss : float or None
        Weighted mean training loss of the sites that counted.
    own_loss : float or None
        This site's training loss; none at the centre and in a round that the site skipped.
    learning_rate : float or None
        Rate of the round's step.
    sites : int
        Sites of the run that train.
    counted : tuple of str
        Sites whose contribution counted.
    skipped : mapping of str
        Reason of each site that did not.
    void : bool
        Whether too few sites counted, so that nothing was applied.
    samples : int
        Sub-volumes: this site's own, or at the centre those of all counted sites.
    unreadable : int
        Scans left out because they could not be read, likewise.
    seconds : float
        Wall-clock seconds from the end of the round before to the end of this one.
    own_seconds : float
        Seconds of it that this node spent computing.
    sent, received : int
        Bytes that left this node and reached it.
    validated : int
        Round whose model `dice` and `own_dice` describe; -1 when this round brought no validation.
    dice : mapping
        Pooled validation Dice of each class.
    own_dice : mapping
        The same over this site's own scans.
    missing : mapping of str
        Sites that validate and are not whole in this validation, and what is wanting.
    clipped : tuple of str
        Sites that counted with an update that was scaled down.
    best : int
        Round of the best model so far; -1 before the first complete validation.
    epsilon : float or None
        What the rounds up to this one cost a scan's privacy: of this site, or at the centre of the site whose scans are
        hidden least; none without setting `dp`.
    by_site : mapping of SiteNumbers
        What the centre knows of each site; empty at a site.
    """

    round: int
    digest: str
    loss: float | None = None
    own_loss: float | None = None
    learning_rate: float | None = None
    sites: int = 0
    counted: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    void: bool = False
    samples: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0
    sent: int = 0
    received: int = 0
    validated: int = -1
    dice: Dice = field(default_factory=dict)
    own_dice: Dice = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    clipped: tuple[str, ...] = ()
    best: int = -1
    epsilon: float | None = None
    by_site: Mapping[str, SiteNumbers] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {**vars(self), "by_site": {site: dict(vars(numbers)) for site, numbers in self.by_site.items()}}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RoundNumbers:
        """Read a record back from a journal entry; fields that it does not know are left out.

        Raises
        ------
        TypeError
            If the entry has no round or digest, or a site that is no object.
        """
        known = {name: raw[name] for name in _names(cls) if name in raw}
        sites = {site: SiteNumbers(**_known(SiteNumbers, item)) for site, item in known.pop("by_site", {}).items()}
        known |= {name: tuple(known.get(name, ())) for name in ("counted", "clipped")}
        return cls(**known, by_site=sites)


def _names(record: type[RoundNumbers] | type[SiteNumbers]) -> list[str]:
    return [item.name for item in fields(record)]


def _known(record: type[SiteNumbers], raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: raw[name] for name in _names(record) if name in raw}
