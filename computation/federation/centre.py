"""What the centre knows of a run, and what it does in each phase; `remote` says when.

The centre never sees a scan. It keeps a replica of the model, stepped exactly as every site steps its own, so that
after each round it knows the digest that every site must report.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from computation.coinstac import arrivals
from computation.coinstac.node import Folders
from computation.errors import MeshNetError, MessageError, QuorumError
from computation.federation import (
    agreement,
    claims,
    consensus,
    initial,
    origin,
    planning,
    privacy,
    screening,
    selection,
    shares,
    voices,
)
from computation.federation.masking import centre as masking
from computation.federation.masking import circle
from computation.federation.origin import CENTRE, Origin
from computation.federation.selection import Selection, Validation
from computation.model import architecture
from computation.settings import Settings
from computation.strategies import Combined, Contribution, named
from computation.strategies.remembering import recall, remember
from computation.tracking import RoundNumbers, SiteNumbers, Tracker
from computation.training.learner import Learner
from computation.wire import payload
from computation.wire.messages import (
    STOPS,
    Arrived,
    FinishOffer,
    JoinOffer,
    Plan,
    Results,
    RoundOffer,
    Unmasking,
    Verdict,
)
from computation.wire.payload import COMBINATION, CONTRIBUTION, MASKED, Manifest, Payload, Vector

__all__ = ["CentreRun"]

#: Rounds in a row that may fall short of the quorum before the run is given up.
_MOST_VOID = 3


class CentreRun:
    """What the centre knows of a run.

    Parameters
    ----------
    folders : Folders
        COINSTAC's directories.
    called : str, optional
        Name that the run gets; a random one by default.
    """

    def __init__(self, folders: Folders, called: str = "") -> None:
        self.folders, self._called = folders, called
        self.origin = Origin(CENTRE, folders.checkpoints)
        self.tracker = Tracker(folders.output)
        self.offers: dict[str, JoinOffer] = {}
        self.joined = "{}"  # as text, since each checkpoint has it
        self.settings = Settings()
        self.plan: Plan | None = None
        self.round = 1
        self.void_in_a_row = 0
        self.contributed: dict[str, int] = {}
        self.screening = screening.State()
        self.findings: Mapping[str, screening.Finding] = {}
        #: Sums of masked updates, where setting `secure_aggregation` asks for them.
        self.sums: masking.Sums | None = None
        self.stopped = ""
        self.results: Results | None = None
        self.evaluations: dict[str, FinishOffer] = {}
        self.clock = self.began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds in which the run went on; what lay between an interruption and its end does not count."""
        return time.monotonic() - self.began

    @property
    def name(self) -> str:
        """Name of the run; empty before the join."""
        return self.plan.run if self.plan else ""

    @property
    def keep(self) -> int:
        """Number of checkpoints to keep."""
        return self.settings.keep_checkpoints

    @property
    def trainers(self) -> int:
        """Number of sites that have a scan to train on."""
        return sum(offer.trains for offer in self.offers.values())

    def begin(self, messages: Mapping[str, Any]) -> Plan:
        """Settle what the sites agree on in their first messages, and make the one initial model from the seed."""
        self.offers = offers = self.origin.admit(messages)
        self.joined = json.dumps({site: offer.as_json() for site, offer in offers.items()})
        agreed = planning.agreed(offers)
        self.settings = agreed.settings
        self._build(agreed.rounds)
        self._start_from_given()
        self.contributed = dict.fromkeys(sorted(offers), 0)
        plan = planning.plan(self._called or uuid.uuid4().hex, offers, agreed, self.learner)
        self.plan = self.origin.found(plan, offers, messages)
        self._mask()
        self._track()
        self.tracker.event("plan", **self.plan.as_json(), settings=self.settings.as_json())
        origin.tell(self.tracker, self.plan)
        if self.sums:
            self.sums.tell(self.tracker)
        for note in self.plan.notes:
            self.tracker.notice("difference", note)
        return self.plan

    def _mask(self) -> None:
        assert self.plan is not None
        self.sums = masking.Sums.of(self.plan, self.settings) if self.plan.masking else None

    def _track(self) -> None:
        assert self.plan is not None
        self.tracker.begin(run=self.plan.run, rounds=self.plan.rounds, classes=self.settings.classes)

    def _build(self, rounds: int) -> None:
        self.strategy = named(self.settings)
        self.learner = Learner(architecture.from_settings(self.settings), self.settings, rounds)
        self.selection = Selection(self.settings, self.offers, self.learner.vector())

    def _start_from_given(self) -> None:
        """Take over the trained model that the owner names, where one is named."""
        initial.check_policy(self.learner, self.settings)
        if self.settings.initial_model:
            self.learner.load_vector(self._given())
            self.selection = Selection(self.settings, self.offers, self.learner.vector())

    def _given(self) -> Vector:
        base, told = self.folders.base, (self.learner, self.settings, self.tracker)
        if (values := initial.own(base, *told)) is not None:
            return values
        return initial.chosen(
            initial.brought(base, sorted(self.offers), self.origin, self.learner, self.tracker), *told
        )

    def ship(self, name: str, kind: int, values: Vector, model: str = "") -> None:
        """Put a payload for all sites into the transfer directory."""
        item = Payload(kind, self.round, self.learner.manifest, values, model, run=self.name)
        self.origin.ship(self.folders.transfer, name, item)

    def consensus(self, digests: Mapping[str, str]) -> None:
        """Stop the run if a site no longer holds the centre's model.

        Raises
        ------
        ConsensusError
            Naming the sites that differ.
        """
        consensus.check(digests, self.learner.digest(), f"before round {self.round}")

    def contributions(self, offers: Mapping[str, RoundOffer], skipped: dict[str, str]) -> list[Contribution]:
        """Read what the sites sent; a payload that must not be averaged puts its site among `skipped`, and says why."""
        taken = []
        model = self.learner.digest()
        for site, offer in offers.items():
            if site in skipped or offer.status != "ok":
                continue
            if site in self.screening.excluded:
                skipped[site] = "excluded"
                continue
            try:
                values = self._receive(site, model)
                claims.check_values(self.learner.manifest, values)
                claims.check_loss(offer.loss)
            except MeshNetError as error:
                skipped[site] = f"refused: {error.public}"[:200]
                continue
            weight = shares.weight(self.settings, self.offers[site], offer.samples)
            taken.append(Contribution(site, self.round, model, weight, offer.loss or 0.0, values))
        return self._capped(self._screened(taken, skipped))

    def _screened(self, taken: list[Contribution], skipped: dict[str, str]) -> list[Contribution]:
        """Leave out or clip what is far larger than the others', and write down all that it was judged by."""
        before, origin = self.screening, self.strategy.origin(self.learner)
        assert self.plan is not None
        bounds = privacy.widened(screening.Bounds.of(self.settings), self.settings, self.plan)
        done = screening.screen(taken, origin, self.learner.parts, before, bounds)
        self.screening, self.findings = done.state, done.findings
        skipped.update(done.refused)
        screening.report(self.tracker, self.round, before, done)
        return list(done.kept)

    @property
    def clipped(self) -> tuple[str, ...]:
        """Sites whose update of this round was scaled down, sorted."""
        return tuple(site for site, finding in sorted(self.findings.items()) if 0 < finding.scale < 1)

    def _capped(self, taken: list[Contribution]) -> list[Contribution]:
        """Hold each site's weight to the share that the owner allows, and say where that changed something."""
        weights = {one.site: one.weight for one in taken}
        held = shares.capped(weights, self.settings.most_share)
        if held == weights:
            return taken
        for site in shares.lowered(weights, held):
            self.tracker.notice("capped", f"the weight of {site} was held at setting 'most_share'", round=self.round)
        return [replace(one, weight=held[one.site]) for one in taken]

    def _receive(self, site: str, model: str) -> Vector:
        values: Vector = self._arrived(site, model, CONTRIBUTION, self.learner.manifest, self.learner.dtype)
        return values

    def _arrived(self, site: str, model: str, kind: int, manifest: Manifest, dtype: np.dtype[Any]) -> Any:
        return arrivals.receive(
            self.folders.base / site / f"{payload.PREFIX}contribution.bin",
            kind=kind,
            round=self.round,
            manifest=manifest,
            dtype=dtype,
            model=model,
            site=site,
            run=self.name,
            signed=self.origin.wanted(site, "contribution"),
        )

    def check(self, offers: Mapping[str, RoundOffer]) -> None:
        """Refuse a round of which a site's message cannot be true.

        Raises
        ------
        MessageError
            Naming the site.
        """
        assert self.plan is not None
        for site, offer in offers.items():
            claims.check_round(site, self.offers[site], offer, self.settings, self.plan.batches.get(site, 0))
            masking.check_offer(site, offer, self.sums.terms if self.sums else None)
            if offer.validation and not self.validates:
                raise MessageError(f"site {site} sent counts in round {self.round}, in which nothing is validated")

    @property
    def validates(self) -> bool:
        """Whether the counts of a validation ride in this round's messages."""
        return self.selection.due(self.round - 1)

    def validate(self, offers: Mapping[str, RoundOffer]) -> Validation | None:
        """Pool the validation counts that ride in this round's messages, and keep the model if it is the best yet."""
        if not self.validates:
            return None
        counts = {site: offer.validation for site, offer in offers.items() if offer.validation}
        values = self.learner.vector()
        return selection.select(self.selection, counts, values, self.round - 1, self.tracker, self.round)

    def stop(self, done: Validation | None) -> str:
        """Decide whether the training ends with this round although more are planned: a word from `STOPS`, or none."""
        assert self.plan is not None
        more = self.round < self.plan.rounds
        if reason := self._reason_to_stop(done) if more else privacy.stopped(self.settings, self.offers, self.plan):
            self.stopped = reason
            self.tracker.notice("stopped", f"after round {self.round}: {STOPS[self.stopped]}", round=self.round)
        return self.stopped

    def _reason_to_stop(self, done: Validation | None) -> str:
        if done and self.selection.exhausted:
            return "patience"
        return "deadline" if 0 < self.settings.deadline <= self.spent else ""

    def close(self, contributions: list[Contribution], skipped: dict[str, str]) -> Combined | None:
        """Combine the round and step the replica, or declare the round void.

        Raises
        ------
        QuorumError
            If too few sites contributed for the third time in a row.
        """
        ground = voices.ground(self.strategy, self.learner, skipped)
        if self.falls_short(len(contributions), skipped, ground.found):
            return None
        return self._settled(self.strategy.combine(contributions, ground))

    def falls_short(self, count: int, skipped: Mapping[str, str], found: int = 0) -> bool:
        """Tell whether so many contributions are too few, which makes a round void; raises as `close`."""
        least = self.sums.least if self.sums else self.strategy.rule.needed(found)
        needed = max(math.ceil(self.settings.quorum * self.trainers), least)
        if count >= needed:
            return False
        self.void_in_a_row += 1
        if self.void_in_a_row >= _MOST_VOID:
            reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(skipped.items()))
            raise QuorumError(
                f"in {_MOST_VOID} rounds in a row fewer than {needed} of {self.trainers} sites contributed "
                f"({reasons}); mend those sites or lower {voices.lowering(self.settings)}"
            )
        return True

    def gather(self, offers: Mapping[str, RoundOffer], skipped: dict[str, str]) -> Arrived | None:
        """Add up masked updates, and return what the sites are told of it; nothing where too few came."""
        assert self.sums is not None
        model, words = self.learner.digest(), circle.manifest(self.learner.manifest)
        size = self.learner.manifest.size
        self.sums.gather(offers, skipped, size, lambda site: self._arrived(site, model, MASKED, words, circle.WORD))
        if self.falls_short(len(self.sums.there), skipped):
            self.sums.close()
            return None
        return self.sums.ask(self.round, offers, skipped)

    def unmask(self, answers: Mapping[str, Unmasking], skipped: dict[str, str]) -> Combined | None:
        """Take the masks off the round's sum and step the replica, or declare the round void; raises as `close`."""
        assert self.sums is not None
        origin = self.strategy.origin(self.learner)
        try:
            combined = self.sums.combined(self.round, answers, origin, self.learner.parts)
            claims.check_values(self.learner.manifest, combined.values)
        except MeshNetError as error:
            self.tracker.notice("void", f"the round is void: {error.public}", round=self.round)
            skipped.update({site: "masked" for site in self.sums.there if site not in answers})
            self.falls_short(0, skipped)
            return None
        finally:
            self.sums.close()
        return self._settled(combined)

    def _settled(self, combined: Combined) -> Combined:
        """Ship a combination and step the replica with it."""
        self.void_in_a_row = 0
        self.ship("combination", COMBINATION, combined.values, self.learner.digest())
        self.strategy.apply(self.learner, combined)
        for site in combined.sites:
            self.contributed[site] += 1
        return combined

    def numbers(self, verdict: Verdict, offers: Mapping[str, RoundOffer]) -> RoundNumbers:
        """Return what the journal keeps of a round."""
        now = time.monotonic()
        seconds, self.clock = now - self.clock, now
        assert self.plan is not None
        size = payload.length(self.learner.manifest, self.learner.dtype)
        each = circle.length(self.learner.manifest) if self.sums else size
        counted = [offers[site] for site in verdict.counted]
        return RoundNumbers(
            round=self.round,
            digest=verdict.model,
            loss=verdict.loss,
            learning_rate=self.learner.rate(self.round),
            sites=self.trainers,
            counted=verdict.counted,
            skipped=verdict.skipped,
            void=verdict.void,
            samples=sum(offer.samples for offer in counted),
            unreadable=sum(offer.unreadable for offer in offers.values()),
            seconds=seconds,
            sent=0 if verdict.void else size,
            received=each * sum(offer.status == "ok" for offer in offers.values()),
            validated=verdict.validated,
            dice=verdict.dice,
            missing=verdict.missing,
            clipped=verdict.clipped,
            best=verdict.best,
            epsilon=privacy.largest(self.settings, self.offers, self.plan, self.round),
            by_site={
                site: SiteNumbers(
                    reason=verdict.skipped.get(site, ""),
                    loss=offer.loss if offer.status == "ok" and not self.sums else None,
                    samples=offer.samples,
                    unreadable=offer.unreadable,
                    seconds=offer.seconds,
                    received=each if offer.status == "ok" else 0,
                    **self._judged(site),
                )
                for site, offer in offers.items()
            },
        )

    def _judged(self, site: str) -> dict[str, float]:
        return vars(self.findings[site]) if site in self.findings else {}

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return what a restarted centre needs."""
        arrays, learner = self.learner.state()
        remembered, strategy = remember(self.strategy)
        sums, masked = self.sums.record() if self.sums else ({}, {})
        values = {
            "masked": masked,
            "offers": self.joined,
            "plan": self.plan.recorded if self.plan else None,
            "learner": learner,
            "strategy": strategy,
            "round": self.round,
            "journal": self.tracker.position,
            "void_in_a_row": self.void_in_a_row,
            "contributed": self.contributed,
            "screening": self.screening.as_json(),
            "selection": self.selection.record(),
            "stopped": self.stopped,
            "spent": self.spent,
            "results": self.results.as_json() if self.results else None,
            "evaluations": {site: offer.as_json() for site, offer in self.evaluations.items()},
        }
        return {**arrays, **remembered, **sums, "best_vector": self.selection.values}, values

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Go back to a recorded state."""
        self.tracker.go_on(values["journal"])
        self.joined = values["offers"]
        self.offers = {site: JoinOffer.parse(raw) for site, raw in json.loads(self.joined).items()}
        self.settings, _ = agreement.agree(self.offers)
        self.plan = Plan.parse(values["plan"])
        self.origin.go_on(self.plan)
        self._build(self.plan.rounds)
        self._mask()
        if self.sums:
            self.sums.restore(arrays, values["masked"])
        self.selection.restore(values["selection"], arrays["best_vector"].astype(self.learner.dtype))
        self.learner.load_state({k: v for k, v in arrays.items() if k != "best_vector"}, values["learner"])
        recall(self.strategy, arrays, values["strategy"])
        self.round, self.void_in_a_row = values["round"], values["void_in_a_row"]
        self.contributed = dict(values["contributed"])
        self.stopped, self.began = values["stopped"], time.monotonic() - values["spent"]
        self.screening = screening.State.from_json(values["screening"])
        self.results = Results.parse(values["results"]) if values["results"] else None
        self.evaluations = {site: FinishOffer.parse(raw) for site, raw in values["evaluations"].items()}
        self._track()
