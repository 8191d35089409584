"""What a peer knows of the rounds so far, and what it and the others make of each that is over."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any

from numpy.typing import NDArray

from computation.errors import MessageError
from computation.federation import claims, consensus
from computation.federation.selection import Selection, Validation, select
from computation.federation.site import SiteRun
from computation.strategies.average import normalised
from computation.tracking import RoundNumbers
from computation.wire.messages import Evaluation, JoinOffer, RoundOffer, Verdict
from peers.joining import expect_all
from peers.mail import gather, said
from peers.peer import Peer
from peers.requests import Message, Report, Request

__all__ = ["EVALUATING", "Rounds", "usual"]

#: Seconds that another peer may take to evaluate, in which it says nothing.
EVALUATING = 3600.0

_TOPIC = "round"


class Rounds:
    """The rounds of one peer.

    Parameters
    ----------
    site : SiteRun
        What learns here, and writes down.
    peer : Peer
        Who talks.
    offers : mapping of str to JoinOffer
        What each peer brings.
    common : bool
        Whether all hold one model after every round; then they tell each other what the round came to.

    Attributes
    ----------
    selection : Selection
        The best model so far; the same at all peers.
    counted : dict of int
        Rounds in which each peer counted; of the others it is known in common rounds only.
    stopped : str
        Why there are no more rounds although more were planned, a word from `STOPS`.
    """

    def __init__(self, site: SiteRun, peer: Peer, offers: Mapping[str, JoinOffer], common: bool) -> None:
        self.site, self.peer, self.offers, self.common = site, peer, offers, common
        self.selection = Selection(site.settings, offers, site.trainer.vector())
        self.counted = dict.fromkeys(peer.names, 0)
        self.stopped = ""
        self.begin()

    def begin(self) -> None:
        """Begin a round."""
        self.began = time.monotonic()
        self.site.limit(self.began)
        self.samples, self.summed, self.seconds, self.reason = 0, 0.0, 0.0, ""

    def fail(self, round: int, error: Exception) -> None:
        """Hear that this peer could not learn in a round."""
        self.reason = self.site.skip(error)

    def note(self, report: Report) -> None:
        """Hear what this peer did in a round."""
        if report.loss is not None:
            self.samples += report.samples
            self.summed += report.samples * report.loss
            self.seconds = round(time.monotonic() - self.began, 4)

    def close(self, report: Report) -> Generator[Request, Any, RoundNumbers]:
        """End a round, and begin the next.

        Raises
        ------
        ConsensusError
            Naming who does not hold the common model.
        MeshNetError
            Naming a peer that said what cannot be.
        PeersError
            Naming a peer that said nothing although all are needed.
        """
        assert self.site.plan is not None
        more = report.round < self.site.plan.rounds
        # As at a centre, where a validation rides with the round after it: that round still counts.
        stop = "patience" if self.common and more and self.selection.exhausted else ""
        counts = self.site.validate(report.round) if more and not stop else None
        self.site.offer = own = self._offer(report.round, counts)
        if self.common:
            offers = yield from self._told(own, more and not stop)
            verdict = self._verdict(report, offers, stop)
        else:
            verdict = self._alone(report, own)
        self.stopped = stop
        for name in verdict.counted if self.common else [self.peer.name] * (own.status == "ok"):
            self.counted[name] += 1
        if report.numbers:
            self.site.tracker.event("measured", round=report.round, numbers=report.numbers)
        numbers = self.site.close(verdict)
        self.begin()
        return numbers

    def _offer(self, round: int, validation: Evaluation | None) -> RoundOffer:
        """Return what this peer says of a round: as a site's word of its contribution, but of the model after it."""
        status = "ok" if self.samples else "skipped" if self.site.trains else "evaluates"
        return RoundOffer(
            round=round,
            status=status,
            reason=(self.reason or "absent") if status == "skipped" else "",
            samples=self.samples,
            loss=self.summed / self.samples if self.samples else 0.0,
            model=self.site.trainer.digest(),
            unreadable=len(self.site.trainer.skipped),
            seconds=self.seconds,
            validation=validation,
        )

    def _told(self, own: RoundOffer, validates: bool) -> Generator[Request, Any, dict[str, RoundOffer]]:
        """Tell all others what the round came to here, and hear what it came to there."""
        due = validates and self.selection.due(own.round)
        message = Message(_TOPIC, own.round, text=json.dumps(own.as_json(), allow_nan=False))
        patience = EVALUATING if due else None
        told = yield from gather(self.peer, _TOPIC, message, patience=patience)
        expect_all(self.peer, told, f"after round {own.round}", patience)
        offers = {name: said(name, told[name], RoundOffer.parse) for name in self.peer.names}
        for name, offer in offers.items():
            self._check(name, offer, own.round, due)
        digests = {name: offer.model for name, offer in offers.items()}
        consensus.check(digests, usual(digests), f"after round {own.round}")
        return offers

    def _check(self, name: str, offer: RoundOffer, round: int, due: bool) -> None:
        """Refuse what a peer cannot say of a round; raises `MessageError`."""
        assert self.site.plan is not None
        if offer.round != round or (offer.validation and not due):
            raise MessageError(f"peer {name} speaks of another round or validation; wanted round {round}")
        batches = self.site.plan.batches.get(name, 0)
        claims.check_round(name, self.offers[name], offer, self.site.settings, batches)

    def _verdict(self, report: Report, offers: Mapping[str, RoundOffer], stop: str) -> Verdict:
        """Return what the round came to, as a centre would; it is the same at all peers."""
        counts = {name: offer.validation for name, offer in offers.items() if offer.validation}
        done = self._pooled(counts, report.round) if counts else None
        counted = tuple(name for name in report.counted if offers[name].status == "ok")
        return Verdict(
            round=report.round,
            void=not counted,
            counted=counted,
            skipped={name: offer.reason for name, offer in offers.items() if offer.status == "skipped"},
            loss=self._loss({name: offers[name].loss or 0.0 for name in counted}) if counted else None,
            model=self.site.trainer.digest(),
            validated=done.round if done else -1,
            dice=done.dice if done else {},
            best=self.selection.best,
            last=bool(stop),
            missing=done.missing if done else {},
            stop=stop,
        )

    def _pooled(self, counts: Mapping[str, Evaluation], round: int) -> Validation:
        return select(self.selection, counts, self.site.trainer.vector(), round, self.site.tracker, round)

    def _loss(self, losses: Mapping[str, float]) -> float:
        shares = normalised([self.peer.weights[name] for name in losses])
        return math.fsum(share * loss for share, loss in zip(shares, losses.values(), strict=True))

    def _alone(self, report: Report, own: RoundOffer) -> Verdict:
        """Return what the round came to as far as this peer knows."""
        return Verdict(
            round=report.round,
            void=not report.counted,
            counted=report.counted,
            skipped={**({self.peer.name: own.reason} if own.reason else {}), **report.skipped},
            loss=None,
            model=own.model,
            clipped=report.clipped,
            validated=report.round if own.validation else -1,
        )

    def record(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what a restarted peer needs of this: arrays, and plain JSON values."""
        values = {"selection": self.selection.record(), "counted": self.counted, "stopped": self.stopped}
        return {"best_vector": self.selection.values}, values

    def restore(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a recorded state."""
        self.selection.restore(values["selection"], arrays["best_vector"])
        self.counted, self.stopped = dict(values["counted"]), values["stopped"]


def usual(digests: Mapping[str, str]) -> str:
    """Return the digest of most, so that the odd ones are told apart from it; of equally many the first peer's."""
    return Counter(digests[name] for name in sorted(digests)).most_common(1)[0][0]
