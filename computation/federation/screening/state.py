"""What screening is told, finds, and remembers from round to round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from computation.federation.screening.paths import Paths
from computation.settings import Settings

__all__ = ["NO_BOUNDS", "Bounds", "Finding", "Mark", "Past", "State"]

#: Digests of a model and of the values that a site offered on it, both shortened.
Mark = tuple[str, str]


@dataclass(frozen=True)
class Bounds:
    """What the owner allows; sizes are multiples of the cohort's norm, and 0 is no bound.

    Attributes
    ----------
    clip : float
        An update above it is scaled down to it.
    refuse : float
        An update above it is left out.
    suspect : float
        A site with three updates above it in 16 rounds has each one left out that is above half of it. Where fewer
        than three updates of a site have counted, nothing speaks for it yet, and one is enough.
    rounds : int
        Rounds in a row in which a site is refused before it is out for the rest of the run.
    opposed : float
        Rounds' worth of pointing against the others' above which a site's updates are left out.
    copies : bool
        Whether values that were there before, and updates of nothing, are left out.
    drifted : float, optional
        How far to one side of the others', in usual distances of two updates a round, a site's are led at most; 0 is no
        bound. None where drift means nothing, and is not even measured: wherever there is no centre.
    """

    clip: float
    refuse: float
    suspect: float
    rounds: int
    opposed: float = 0.0
    copies: bool = False
    drifted: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to judge by, drift aside."""
        return self.copies or max(self.clip, self.refuse, self.suspect, self.opposed) > 0

    @property
    def follows(self) -> bool:
        """Whether drift is measured: with a bound of its own, or beside others, to be seen."""
        return self.drifted is not None and (self.any or self.drifted > 0)

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """Return the bounds that the settings name."""
        return cls(
            settings.clip_above,
            settings.refuse_above,
            settings.suspect_above,
            settings.exclude_after,
            settings.opposed_above,
            settings.copies == "refuse",
            settings.drifted_above,
        )


NO_BOUNDS = Bounds(0, 0, 0, 0)


@dataclass(frozen=True)
class Past:
    """What is remembered of the sizes of a site's updates, the latest last.

    Attributes
    ----------
    multiples : tuple of float
        Of the cohort's norm, whatever became of them.
    norms : tuple of float
        Of those that counted.
    """

    multiples: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What is made of one update.

    Attributes
    ----------
    multiple : float
        Its norm, as a multiple of the cohort's; 0 where there is nothing to compare it with.
    scale : float
        What it is multiplied by: 1 counts as it is, less is clipped, 0 is left out.
    cosine : float
        Median of its cosines to the others' updates; 0 where there is nothing to compare it with.
    drift : float
        How far to one side of the others' its updates are led of late; 0 where that is not judged.
    """

    multiple: float = 0.0
    scale: float = 1.0
    cosine: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True)
class State:
    """What the next round needs.

    Attributes
    ----------
    pasts : mapping of mapping of Past
        By part of the vector, then by site.
    refused : mapping of int
        Rounds in a row in which a site was refused, up to now.
    excluded : tuple of str
        Sites that are out for the rest of the run, sorted.
    opposed : mapping of float
        How much a site's updates pointed against the others' of late; see `direction`.
    marks : mapping of tuple of Mark
        Of what each site offered of late, the latest last.
    barren : mapping of int
        Rounds in a row in which a site brought nothing of its own, up to now; see `copies`.
    paths : Paths
        Where each site's updates have led; see `drift`.
    """

    pasts: Mapping[str, Mapping[str, Past]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    opposed: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    barren: Mapping[str, int] = field(default_factory=dict)
    paths: Paths = field(default_factory=Paths)

    def seeded(self, sites: Iterable[str], sizes: Mapping[str, float]) -> State:
        """Return the state with a first measure, by part, in the place of the pasts of those of whom nothing is known.

        Parameters
        ----------
        sites : iterable of str
            Who may come.
        sizes : mapping of float
            Norm of an update that is known to be honest; of nothing, no measure is made.
        """
        new = {part: dict.fromkeys(sites, Past(norms=(size,))) for part, size in sizes.items() if size > 0}
        return replace(self, pasts={**self.pasts, **{part: {**new[part], **self.pasts.get(part, {})} for part in new}})

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON is made of it: lists are tuples still."""
        return {
            "pasts": {part: {site: vars(past) for site, past in table.items()} for part, table in self.pasts.items()},
            "refused": dict(self.refused),
            "excluded": self.excluded,
            "opposed": dict(self.opposed),
            "marks": dict(self.marks),
            "barren": dict(self.barren),
            "paths": self.paths.as_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> State:
        """Read back what `as_json` returned."""
        pasts = {
            part: {site: Past(tuple(past["multiples"]), tuple(past["norms"])) for site, past in table.items()}
            for part, table in raw["pasts"].items()
        }
        marks = {site: tuple((model, values) for model, values in table) for site, table in raw["marks"].items()}
        counts = dict(raw["refused"]), tuple(raw["excluded"]), dict(raw["opposed"])
        return cls(pasts, *counts, marks, dict(raw["barren"]), Paths.from_json(raw["paths"]))
