"""The journal read back: the rounds that count, what was not to be hidden, and each site's share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from computation.tracking.numbers import RoundNumbers, SiteNumbers, mean

__all__ = ["Notice", "SiteSummary", "Totals", "notices", "rounds", "summarise", "totals"]


@dataclass(frozen=True)
class Notice:
    """Something that was skipped, clipped, defaulted or replaced.

    Attributes
    ----------
    kind : str
        One word.
    text : str
        One sentence.
    times : int
        How often it was noted.
    """

    kind: str
    text: str
    times: int = 1


@dataclass(frozen=True)
class SiteSummary:
    """One site's share in a run; `None` is what this node cannot know.

    Attributes
    ----------
    site : str
        Its id.
    counted, skipped : int
        Rounds in which it counted and did not.
    reasons : mapping
        How often for which reason it did not.
    samples, unreadable : int or None
        Sub-volumes it contributed, and scans it could not read, over all rounds.
    loss : float or None
        Its training loss in the last round in which it counted.
    seconds : float or None
        Median seconds it spent on a round.
    received : int or None
        Bytes received from it.
    clipped : int
        Rounds in which it counted with an update that was scaled down.
    multiple : float or None
        Its largest update, as a multiple of the others'.
    cosine : float or None
        Mean of its cosines to the others' updates.
    drift : float or None
        How far to one side of the others' its updates were led, at most.
    """

    site: str
    counted: int
    skipped: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    samples: int | None = None
    unreadable: int | None = None
    loss: float | None = None
    seconds: float | None = None
    received: int | None = None
    clipped: int = 0
    multiple: float | None = None
    cosine: float | None = None
    drift: float | None = None


@dataclass(frozen=True)
class Totals:
    """What a round took, as medians over the rounds, and what it all came to.

    Attributes
    ----------
    rounds, void : int
        Rounds done, and those of them that counted for nothing.
    seconds_per_round, sent_per_round, received_per_round : float
        Medians; 0 without rounds.
    seconds, sent, received, samples, unreadable : float or int
        Sums.
    """

    rounds: int = 0
    void: int = 0
    seconds_per_round: float = 0.0
    sent_per_round: float = 0.0
    received_per_round: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    samples: int = 0
    unreadable: int = 0


def rounds(entries: Iterable[Mapping[str, Any]]) -> tuple[RoundNumbers, ...]:
    """Return the rounds in a journal, in order; of a round that was run again after a restart, the last run."""
    found: dict[int, RoundNumbers] = {}
    for entry in entries:
        if entry.get("event") == "round":
            numbers = RoundNumbers.from_json(entry)
            found[numbers.round] = numbers
    return tuple(found[number] for number in sorted(found))


def notices(entries: Iterable[Mapping[str, Any]]) -> tuple[Notice, ...]:
    """Return what a journal notes as not to be hidden, equal notes counted, in the order in which they first came up.

    Besides what was noted with `Tracker.notice`, these are numbers that were not finite, lines of the journal that were
    lost or damaged, and failures of Weights & Biases. What a killed process did after its last checkpoint is done again
    and noted again, so of that only the last course counts: a resumed run has the notices of an unbroken one.
    """
    listed = list(entries)
    counts = Counter(
        pair
        for entry, stands in zip(listed, _standing(listed), strict=True)
        for pair in [*_of_the_run(entry, stands), *_of_the_process(entry)]
    )
    return tuple(Notice(kind, text, times) for (kind, text), times in counts.items())


def _standing(entries: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Tell of each entry whether it is of a course that no later restart gave up."""
    given_up, standing = math.inf, []
    for entry in reversed(entries):
        standing.append(entry.get("sequence", -1) < given_up)
        if entry.get("event") == "resumed":
            given_up = min(given_up, entry.get("position", math.inf))
    return standing[::-1]


def _of_the_run(entry: Mapping[str, Any], stands: bool) -> list[tuple[str, str]]:
    """Return what an unbroken run would note as well."""
    if not stands:
        return []
    event = entry.get("event")
    found = [(str(entry.get("kind", "")), str(entry.get("text", "")))] if event == "notice" else []
    return found + [("not finite", f"{name} of a {event} was {value}") for name, value in _odd(entry).items()]


def _of_the_process(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what befell a process or its files, which no restart undoes."""
    found = []
    event = entry.get("event")
    if event == "journal-mended":
        found.append(("journal", "a half-written line, left by a process that was killed, was cut off"))
    if event == "unreadable-line":
        found.append(("journal", "a damaged line was left out"))
    if event == "wandb-failed":
        found.append(("logging", f"Weights & Biases stopped: {entry.get('error', '')}"))
    return found


def _odd(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    odd = entry.get("not_finite")
    return odd if isinstance(odd, Mapping) else {}


def totals(done: Sequence[RoundNumbers]) -> Totals:
    """Return medians and sums over rounds."""
    if not done:
        return Totals()
    return Totals(
        rounds=len(done),
        void=sum(item.void for item in done),
        seconds_per_round=median(item.seconds for item in done),
        sent_per_round=median(item.sent for item in done),
        received_per_round=median(item.received for item in done),
        seconds=sum(item.seconds for item in done),
        sent=sum(item.sent for item in done),
        received=sum(item.received for item in done),
        samples=sum(item.samples for item in done),
        unreadable=sum(item.unreadable for item in done),
    )


def summarise(done: Sequence[RoundNumbers], own: str = "") -> tuple[SiteSummary, ...]:
    """Return each site's share, sorted by site.

    Parameters
    ----------
    done : sequence of RoundNumbers
        The rounds.
    own : str, optional
        The site whose own numbers these are; empty at the centre, which has `by_site`.
    """
    names = {name for item in done for name in (*item.counted, *item.skipped, *item.by_site)}
    return tuple(_share(name, done, own) for name in sorted(names))


def _share(site: str, done: Sequence[RoundNumbers], own: str) -> SiteSummary:
    reasons = Counter(item.skipped[site] for item in done if site in item.skipped)
    seen = _seen(site, done, own)
    share = SiteSummary(site, sum(site in item.counted for item in done), sum(reasons.values()), dict(reasons))
    if not seen:
        return share
    losses = [item.loss for item in seen if item.loss is not None]
    return SiteSummary(
        site,
        share.counted,
        share.skipped,
        share.reasons,
        samples=sum(item.samples for item in seen),
        unreadable=sum(item.unreadable for item in seen),
        loss=mean(losses[-1:]),
        seconds=median(item.seconds for item in seen),
        received=None if site == own else sum(item.received for item in seen),
        clipped=sum(site in item.clipped for item in done),
        multiple=max(item.multiple for item in seen) or None,
        cosine=mean([item.cosine for item in seen if item.multiple]),
        drift=max(item.drift for item in seen) or None,
    )


def _seen(site: str, done: Sequence[RoundNumbers], own: str) -> list[SiteNumbers]:
    if site != own:
        return [item.by_site[site] for item in done if site in item.by_site]
    return [
        SiteNumbers(loss=item.own_loss, samples=item.samples, unreadable=item.unreadable, seconds=item.own_seconds)
        for item in done
    ]
