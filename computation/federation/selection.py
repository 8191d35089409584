"""Which model is the best: chosen among validations over the same voxels, and no others.

A site that misses one validation leaves the others' counts, whose Dice describes other scans; to compare it would
choose a model by who was absent. So each site's first validation says which voxels it counts, and only a validation in
which every site that has validation scans counts those is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from computation.federation import claims, shares
from computation.settings import Settings
from computation.tracking import Tracker
from computation.training.metrics import foreground_mean
from computation.wire.messages import Evaluation, JoinOffer
from computation.wire.payload import Vector

__all__ = ["Selection", "Validation", "pooled", "select", "tell", "wanting"]

Dice = dict[str, float | None]

#: How often a site may count more scans than before: one more each time would keep anything from being compared.
_MOST_GROWN = 3


@dataclass(frozen=True)
class Validation:
    """What the sites' counts of one model came to.

    Attributes
    ----------
    round : int
        The model is the one after this round.
    dice : dict
        Pooled Dice of each class over the sites that are whole in it.
    missing : dict of str
        Sites that validate and are not whole in it, and what is wanting; if there is one, nothing was compared.
    anew : bool
        Whether sites counted more scans than before, so that the comparison began again with this model.
    """

    round: int
    dice: Dice
    missing: dict[str, str]
    anew: bool = False


@dataclass(frozen=True)
class _Reference:
    """What a site counts: scans, voxels of each class, and how often that has become more."""

    scans: int
    truth: tuple[int, ...]
    grown: int = 0


class Selection:
    """The best model so far.

    Parameters
    ----------
    settings : Settings
        The owner's.
    joined : mapping of str to JoinOffer
        What each site brings.
    values : numpy.ndarray
        The initial model.

    Attributes
    ----------
    best : int
        Round of the best model; -1 before the first complete validation.
    dice : float
        Its pooled foreground Dice; -1 likewise.
    values : numpy.ndarray
        The model.
    stale : int
        Complete validations in a row that brought no better one.
    """

    def __init__(self, settings: Settings, joined: Mapping[str, JoinOffer], values: Vector) -> None:
        self.settings, self.joined = settings, joined
        self.expected = {site: joined[site].labelled["valid"] for site in sorted(joined)}
        self.expected = {site: scans for site, scans in self.expected.items() if scans}
        self.best, self.dice, self.stale = -1, -1.0, 0
        self.values = values
        self._first: dict[str, _Reference] = {}
        #: Whether a site counts more than when the best model was chosen: the next complete validation begins anew.
        self._anew = False

    def due(self, round: int) -> bool:
        """Whether the model after a round is validated: as often as the owner says, where there is a scan for it."""
        return round > 0 and round % self.settings.validate_every == 0 and bool(self.expected)

    @property
    def exhausted(self) -> bool:
        """Whether so many validations in a row brought nothing better that the training ends, as the owner set it."""
        return 0 < self.settings.patience <= self.stale

    def take(self, round: int, counts: Mapping[str, Evaluation], values: Vector) -> Validation:
        """Pool a validation, and keep its model if it is complete and the best yet.

        Parameters
        ----------
        round : int
            The model is the one after this round.
        counts : mapping of str to Evaluation
            What the sites counted, checked against what they joined with.
        values : numpy.ndarray
            The model.
        """
        self._anew |= self._grown(counts) and self.best >= 0
        missing = {site: lack for site in self.expected if (lack := self._lack(site, counts.get(site)))}
        dice = pooled({site: one for site, one in counts.items() if site not in missing}, self.settings)
        anew = self._anew and not missing
        if not missing:
            self._compare(round, dice, values)
        return Validation(round, dice, missing, anew)

    def _grown(self, counts: Mapping[str, Evaluation]) -> bool:
        """Note what each site counts first, and tell whether that is more than it counted before."""
        new = {site: _Reference(one.scans, one.truth) for site, one in counts.items() if site not in self._first}
        more = {
            site: _Reference(one.scans, one.truth, self._first[site].grown + 1)
            for site, one in counts.items()
            if site not in new and one.scans > self._first[site].scans and self._first[site].grown < _MOST_GROWN
        }
        self._first |= new | more
        return bool(more)

    def _lack(self, site: str, one: Evaluation | None) -> str:
        """Say what is wanting in a site's counts; nothing if they are of the voxels of its first validation."""
        if one is None:
            return "no counts"
        first = self._first[site]
        if one.scans < first.scans:
            return f"{one.scans} of {first.scans} scans"
        return "" if (one.scans, one.truth) == (first.scans, first.truth) else "other voxels than at first"

    def _compare(self, round: int, dice: Dice, values: Vector) -> None:
        value = foreground_mean(list(dice.values()))
        if self._anew:
            self.best, self.dice, self.stale, self._anew = -1, -1.0, 0, False
        if value is not None and value > self.dice:
            self.best, self.dice, self.values, self.stale = round, value, values, 0
        else:
            self.stale += 1

    def record(self) -> dict[str, Any]:
        """Return what a restarted centre needs besides the model, as plain JSON."""
        first = {site: [one.scans, list(one.truth), one.grown] for site, one in self._first.items()}
        return {"best": self.best, "dice": self.dice, "stale": self.stale, "first": first, "anew": self._anew}

    def restore(self, record: Mapping[str, Any], values: Vector) -> None:
        """Go back to a recorded state."""
        self.best, self.dice, self.stale = record["best"], record["dice"], record["stale"]
        self._first = {
            site: _Reference(scans, tuple(truth), grown) for site, (scans, truth, grown) in record["first"].items()
        }
        self.values, self._anew = values, record["anew"]


def pooled(counts: Mapping[str, Evaluation], settings: Settings) -> Dice:
    """Return the Dice of each class from counts summed over sites; empty without counts.

    One site's voxels have the same cap as its weight in training, so that a claim of many scans does not choose alone.
    """
    if not counts:
        return {}
    sites = sorted(counts)
    factors = _factors({site: float(sum(counts[site].truth)) for site in sites}, settings.most_share)
    both, guessed, true = (
        _summed([getattr(counts[site], name) for site in sites], factors)
        for name in ("intersection", "predicted", "truth")
    )
    # Factors round, so that a perfect Dice could come out as a little more than one, which nobody would believe.
    values = (min(1.0, 2 * i / (p + t)) if p + t else None for i, p, t in zip(both, guessed, true, strict=True))
    return dict(zip(settings.classes, values, strict=True))


def _factors(voxels: Mapping[str, float], most: float) -> list[float]:
    """Return what each site's counts are multiplied by, in site order: one, unless a site has more than its share."""
    held = shares.capped(voxels, most)
    return [1 if held == voxels else held[site] / voxels[site] for site in voxels]


def _summed(rows: Sequence[Sequence[int]], factors: Sequence[float]) -> list[float]:
    """Return each class's sum over sites: whole numbers, unless a factor is not."""
    return [sum(f * number for f, number in zip(factors, column, strict=True)) for column in zip(*rows, strict=True)]


def select(
    chosen: Selection, counts: Mapping[str, Evaluation], values: Vector, after: int, tracker: Tracker, now: int
) -> Validation:
    """Check the sites' counts of one model, pool them, and note what was wanting.

    Parameters
    ----------
    chosen : Selection
        Keeps the model if it is the best yet.
    counts : mapping of str to Evaluation
        On the validation scans.
    values : numpy.ndarray
        The model.
    after : int
        The round whose model it is.
    tracker : Tracker
        Told what must not be hidden.
    now : int
        The round in which that is told.

    Raises
    ------
    MessageError
        Naming a site that counted another model, or more than it joined with.
    """
    claims.check_counts(chosen.joined, "valid", counts, after, len(chosen.settings.classes))
    done = chosen.take(after, counts, values)
    tell(tracker, done.missing, now)
    if done.anew:
        text = "a site counted more scans than before, so the best model is chosen from this validation on"
        tracker.notice("partial validation", text, round=now)
    return done


def tell(tracker: Tracker, missing: Mapping[str, str], round: int) -> None:
    """Note which sites were not whole in the validation that came with a round's messages."""
    for site, lack in sorted(missing.items()):
        text = f"{site} was not whole in a validation ({lack}), which therefore was not compared with others"
        tracker.notice("partial validation", text, round=round)


def wanting(counts: Mapping[str, Evaluation], joined: Mapping[str, JoinOffer], split: str) -> dict[str, str]:
    """Return the sites whose labelled scans of a split are not all among the counts, and what is wanting."""
    expected = {site: joined[site].labelled[split] for site in sorted(joined)}
    seen = {site: counts[site].scans if site in counts else 0 for site in expected}
    return {site: f"{seen[site]} of {scans} scans" for site, scans in expected.items() if seen[site] < scans}
