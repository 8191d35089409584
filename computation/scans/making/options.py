"""How an import goes about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from computation.errors import ImportScanError
from computation.scans.making.recipe import Recipe
from computation.scans.making.split import Fractions

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How an import goes about it.

    Attributes
    ----------
    recipe : Recipe
        What is done to each scan.
    fractions : Fractions
        Sizes of train, valid and test where no split is given.
    seed : int
        Of the split.
    strict : bool
        Refuse the whole import at the first scan that cannot be used.
    overwrite : bool
        Replace an existing database by a new one.
    update : bool
        Add to an existing database: scans whose files are unchanged are taken over, people keep their part of the
        split, and scans that are no longer listed stay.
    jobs : int
        How many scans are made at once, each in a process of its own.
    """

    recipe: Recipe = field(default_factory=Recipe)
    fractions: Fractions = field(default_factory=Fractions)
    seed: int = 0
    strict: bool = False
    overwrite: bool = False
    update: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ImportScanError(f"{self.jobs} jobs can import nothing; wanted at least 1")
