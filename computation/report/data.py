"""What a report shows: plain frozen records that the two sides fill from their journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from computation.tracking import Notice, RoundNumbers

__all__ = ["Prediction", "ReportData", "Scores"]


@dataclass(frozen=True)
class Scores:
    """Dice of one model over one set of scans.

    Attributes
    ----------
    name : str
        Which model over which scans, such as "Best model, test scans of all sites".
    dice : mapping of str to float or None
        Dice of each class from summed voxel counts; `None` where a class has no voxel.
    scans : int or None
        Scans behind it; none when not known.
    """

    name: str
    dice: Mapping[str, float | None]
    scans: int | None = None


@dataclass(frozen=True)
class Prediction:
    """One file that the site wrote; it is shown on the site's own page only.

    Attributes
    ----------
    file : str
        Name, relative to the output folder.
    note : str
        What it is, such as the split it comes from.
    dice : mapping of str to float or None
        Dice of each class against the site's own label; empty without one.
    """

    file: str
    note: str = ""
    dice: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything on one page. What is left empty is left out.

    Attributes
    ----------
    run : str
        Name of the run.
    site : str
        This site's id; empty at the centre.
    outcome : str
        One sentence: how it ended.
    planned : int
        Rounds that were planned.
    classes : tuple of str
        Class names, background first.
    settings : mapping
        The owner's settings, as `Settings.as_json` gives them.
    member : mapping
        This site's own settings; shown on its own page only, and a key never.
    facts : mapping of str
        Short facts in the order in which to show them: architecture, parameters, device, versions, dates.
    rounds : tuple of RoundNumbers
        The rounds done, in order (`tracking.rounds` reads them from the journal).
    best : int
        Round of the best model; -1 when there is none.
    scores : tuple of Scores
        The final accuracies.
    scans : mapping of str to mapping of str to int
        Scans of each known site by split.
    digests : mapping of str
        SHA-256 of each model by name, such as "initial", "final" and "best".
    site_digests : mapping of str
        SHA-256 of each site's final model.
    keys : mapping of str
        Fingerprint of the key of each site.
    notices : tuple of Notice
        What was skipped, clipped, defaulted or replaced (`tracking.notices`).
    predictions : tuple of Prediction
        The site's own predictions.
    files : mapping of str
        Other files in the output folder, and what each is.
    """

    run: str
    outcome: str
    planned: int
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    site: str = ""
    member: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    rounds: tuple[RoundNumbers, ...] = ()
    best: int = -1
    scores: tuple[Scores, ...] = ()
    scans: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    site_digests: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
