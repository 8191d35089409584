"""What an import did with every scan that it was given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from computation.scans.making.sources import LeftOut
from computation.scans.store.records import SPLITS

__all__ = ["ImportSummary", "Taken"]


@dataclass(frozen=True)
class Taken:
    """A scan that entered the database, or would.

    Attributes
    ----------
    subject, session, split : str
        Whose, which visit, and which part of the split.
    cut : float
        Share of its labelled voxels that lies outside the grid; anything above 0 deserves a look.
    state : str
        ``new``, ``changed`` (its files are not those of the old database) or ``unchanged`` (taken over).
    warnings : tuple of str
        What is odd about it.
    head : str
        As in `Scan`.
    """

    subject: str
    session: str
    split: str
    cut: float = 0.0
    state: str = "new"
    warnings: tuple[str, ...] = ()
    head: str = "unknown"


@dataclass(frozen=True)
class ImportSummary:
    """What an import did with every scan that it was given."""

    taken: tuple[Taken, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Scans taken in each part of the split."""
        found = Counter(scan.split for scan in self.taken)
        return {part: found[part] for part in SPLITS}

    @property
    def mixed(self) -> str:
        """A sentence if some heads are stripped of their skulls and some are not, else nothing."""
        found = Counter(scan.head for scan in self.taken)
        stripped, raw = found["skull-stripped"], found["not stripped"]
        if not (stripped and raw):
            return ""
        return (
            f"{stripped} scans are skull-stripped and {raw} are not; a model learns from one kind: strip all of them "
            "(SynthStrip, HD-BET, BET or the like) or none"
        )
