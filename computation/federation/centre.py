"""What the centre knows of a run, and what it does in each phase; `remote` says when.

The centre never sees a scan. It keeps a replica of the model, stepped exactly as every site steps its own, so that
after each round it knows the digest that every site must report.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from computation.coinstac.arrivals import left_packed
from computation.coinstac.node import Folders
from computation.errors import ConsensusError, MessageError, PayloadError, QuorumError
from computation.federation import agreement, results
from computation.model import architecture
from computation.settings import Settings
from computation.strategies import Combined, Contribution, named
from computation.tracking import RoundNumbers, SiteNumbers, Tracker
from computation.training.learner import Learner
from computation.training.metrics import dice, foreground_mean
from computation.wire import payload
from computation.wire.messages import Evaluation, FinishOffer, JoinOffer, Plan, Results, RoundOffer, Verdict
from computation.wire.payload import COMBINATION, CONTRIBUTION, Payload, Vector

__all__ = ["CentreRun", "summarise"]

#: Rounds in a row that may fall short of the quorum before the run is given up.
_MOST_VOID = 3


class CentreRun:
    """What the centre knows of a run.

    Parameters
    ----------
    folders : Folders
        COINSTAC's directories.
    """

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.tracker = Tracker(folders.output)
        self.offers: dict[str, JoinOffer] = {}
        self.joined: dict[str, Any] = {}
        self.settings = Settings()
        self.plan: Plan | None = None
        self.round = 1
        self.void_in_a_row = 0
        self.contributed: dict[str, int] = {}
        self.best = -1
        self.best_dice = -1.0
        self.results: Results | None = None
        self.evaluations: dict[str, FinishOffer] = {}
        self.clock = time.monotonic()

    @property
    def name(self) -> str:
        """Name of the run; empty before the join."""
        return self.plan.run if self.plan else ""

    @property
    def keep(self) -> int:
        """Number of checkpoints to keep."""
        return self.settings.keep_checkpoints

    def begin(self, offers: Mapping[str, JoinOffer]) -> Plan:
        """Settle what the sites agree on, and make the one initial model from the seed."""
        self.offers = dict(offers)
        self.joined = {site: offer.as_json() for site, offer in offers.items()}
        self.settings, notes = agreement.agree(offers)
        rounds = agreement.rounds(self.settings, offers)
        self._build(rounds)
        self.contributed = dict.fromkeys(sorted(offers), 0)
        self.plan = Plan(
            run=uuid.uuid4().hex,
            rounds=rounds,
            sites=tuple(sorted(offers)),
            manifest=self.learner.manifest.digest,
            model=self.learner.digest(),
            notes=notes,
        )
        self._track()
        self.tracker.event("plan", **self.plan.as_json(), settings=self.settings.as_json())
        for note in notes:
            self.tracker.notice("difference", note)
        return self.plan

    def _track(self) -> None:
        assert self.plan is not None
        self.tracker.begin(run=self.plan.run, rounds=self.plan.rounds, classes=self.settings.classes)

    def _build(self, rounds: int) -> None:
        self.strategy = named(self.settings)
        self.learner = Learner(architecture.from_settings(self.settings), self.settings, rounds)
        self.best_vector = self.learner.vector()

    def ship(self, name: str, kind: int, values: Vector, model: str = "") -> None:
        """Put a payload for all sites into the transfer directory."""
        item = Payload(kind, self.round, self.learner.manifest, values, model, run=self.name)
        payload.write(self.folders.transfer / f"{payload.PREFIX}{name}.bin", item)

    def weight(self, site: str, offer: RoundOffer) -> float:
        """Return a site's share before normalisation, from what it said at join and not from what it claims now."""
        if self.settings.weighting == "scans":
            return float(self.offers[site].scans["train"])
        return float(offer.samples) if self.settings.weighting == "samples" else 1.0

    def consensus(self, digests: Mapping[str, str]) -> None:
        """Stop the run if a site no longer holds the centre's model.

        Raises
        ------
        ConsensusError
            Naming the sites that differ.
        """
        wanted = self.learner.digest()
        strangers = [site for site in sorted(digests) if digests[site] != wanted]
        if strangers:
            held = ", ".join(f"{site} ({digests[site][:12]})" for site in strangers)
            raise ConsensusError(
                f"before round {self.round} the model of site {held} is not the common one ({wanted[:12]}); "
                "the run stops, since gradients of different models must not be averaged"
            )

    def contributions(self, offers: Mapping[str, RoundOffer], skipped: dict[str, str]) -> list[Contribution]:
        """Read what the sites sent; a payload that must not be averaged puts its site among `skipped`, and says why."""
        taken = []
        model = self.learner.digest()
        for site, offer in offers.items():
            if site in skipped:
                continue
            try:
                values = self._receive(site, model)
            except PayloadError as error:
                skipped[site] = f"refused: {error.public}"[:200]
                continue
            taken.append(Contribution(site, self.round, model, self.weight(site, offer), offer.loss, values))
        return taken

    def _receive(self, site: str, model: str) -> Vector:
        """Read a site's payload, also where the platform left it packed; see `arrivals`."""
        path = self.folders.base / site / f"{payload.PREFIX}contribution.bin"
        manifest, dtype = self.learner.manifest, self.learner.dtype
        expected: dict[str, Any] = {"kind": CONTRIBUTION, "round": self.round, "manifest": manifest, "dtype": dtype}
        expected |= {"model": model, "site": site, "run": self.name}
        try:
            return payload.read(path, **expected)
        except PayloadError:
            packed = left_packed(path.parent, path.name, payload.length(manifest, dtype))
            if packed is None:
                raise
            return payload.decode(packed, **expected)

    def validate(self, offers: Mapping[str, RoundOffer]) -> tuple[int, dict[str, float | None]]:
        """Pool the validation counts that ride in this round's messages, and keep the model if it is the best yet."""
        counts = {site: offer.validation for site, offer in offers.items() if offer.validation}
        if not counts:
            return -1, {}
        pooled = self.pool(counts, self.round - 1)
        self.consider(self.round - 1, pooled)
        return self.round - 1, pooled

    def pool(self, evaluations: Mapping[str, Evaluation], round: int) -> dict[str, float | None]:
        """Return the Dice of each class from counts summed over sites.

        Raises
        ------
        MessageError
            If a site counted another model or other classes.
        """
        total = None
        for site in sorted(evaluations):
            one = evaluations[site]
            if one.round != round or len(one.truth) != len(self.settings.classes):
                raise MessageError(
                    f"site {site} evaluated round {one.round} in {len(one.truth)} classes; "
                    f"wanted round {round} in {len(self.settings.classes)}"
                )
            counts = results.as_counts(one)
            total = counts if total is None else total + counts
        return dict(zip(self.settings.classes, dice(total), strict=True)) if total is not None else {}

    def consider(self, round: int, pooled: Mapping[str, float | None]) -> None:
        """Keep the model of this round if its pooled foreground Dice is the highest."""
        value = foreground_mean(list(pooled.values()))
        if value is not None and value > self.best_dice:
            self.best, self.best_dice, self.best_vector = round, value, self.learner.vector()

    def close(self, contributions: list[Contribution], skipped: dict[str, str]) -> Combined | None:
        """Combine the round and step the replica, or declare the round void.

        Raises
        ------
        QuorumError
            If too few sites contributed for the third time in a row.
        """
        needed = math.ceil(self.settings.quorum * len(self.offers))
        if len(contributions) < needed:
            self.void_in_a_row += 1
            if self.void_in_a_row >= _MOST_VOID:
                reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(skipped.items()))
                raise QuorumError(
                    f"in {_MOST_VOID} rounds in a row fewer than {needed} of {len(self.offers)} sites contributed "
                    f"({reasons}); mend those sites or lower 'quorum'"
                )
            return None
        self.void_in_a_row = 0
        combined = self.strategy.combine(contributions)
        self.ship("combination", COMBINATION, combined.values, self.learner.digest())
        self.strategy.apply(self.learner, combined)
        for site in combined.sites:
            self.contributed[site] += 1
        return combined

    def numbers(self, verdict: Verdict, offers: Mapping[str, RoundOffer]) -> RoundNumbers:
        """Return what the journal keeps of a round."""
        now = time.monotonic()
        seconds, self.clock = now - self.clock, now
        size = payload.length(self.learner.manifest, self.learner.dtype)
        counted = [offers[site] for site in verdict.counted]
        return RoundNumbers(
            round=self.round,
            digest=verdict.model,
            loss=verdict.loss,
            learning_rate=self.learner.rate(self.round),
            sites=len(self.offers),
            counted=verdict.counted,
            skipped=verdict.skipped,
            void=verdict.void,
            samples=sum(offer.samples for offer in counted),
            unreadable=sum(offer.unreadable for offer in offers.values()),
            seconds=seconds,
            sent=0 if verdict.void else size,
            received=size * sum(offer.status == "ok" for offer in offers.values()),
            validated=verdict.validated,
            dice=verdict.dice,
            best=verdict.best,
            by_site={
                site: SiteNumbers(
                    reason=verdict.skipped.get(site, ""),
                    loss=offer.loss if offer.status == "ok" else None,
                    samples=offer.samples,
                    unreadable=offer.unreadable,
                    seconds=offer.seconds,
                    received=size if offer.status == "ok" else 0,
                )
                for site, offer in offers.items()
            },
        )

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return what a restarted centre needs."""
        arrays, learner = self.learner.state()
        values = {
            "offers": self.joined,
            "plan": self.plan.as_json() if self.plan else None,
            "learner": learner,
            "round": self.round,
            "journal": self.tracker.position,
            "void_in_a_row": self.void_in_a_row,
            "contributed": self.contributed,
            "best": self.best,
            "best_dice": self.best_dice,
            "results": self.results.as_json() if self.results else None,
            "evaluations": {site: offer.as_json() for site, offer in self.evaluations.items()},
        }
        return {**arrays, "best_vector": self.best_vector}, values

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Go back to a recorded state."""
        self.tracker.go_on(values["journal"])
        self.joined = values["offers"]
        self.offers = {site: JoinOffer.parse(raw) for site, raw in self.joined.items()}
        self.settings, _ = agreement.agree(self.offers)
        self.plan = Plan.parse(values["plan"])
        self._build(self.plan.rounds)
        self.best_vector = arrays["best_vector"].astype(self.learner.dtype)
        self.learner.load_state({k: v for k, v in arrays.items() if k != "best_vector"}, values["learner"])
        self.round, self.void_in_a_row = values["round"], values["void_in_a_row"]
        self.contributed = dict(values["contributed"])
        self.best, self.best_dice = values["best"], values["best_dice"]
        self.results = Results.parse(values["results"]) if values["results"] else None
        self.evaluations = {site: FinishOffer.parse(raw) for site, raw in values["evaluations"].items()}
        self._track()


def summarise(run: CentreRun) -> dict[str, Any]:
    """Return the small final output: what a results tab shows and what `summary.json` starts from."""
    assert run.results is not None
    announced, rounds = run.results, run.results.rounds
    per_site = {
        site: {"model_digest": offer.model, "scans": run.offers[site].scans, "rounds_counted": run.contributed[site]}
        for site, offer in sorted(run.evaluations.items())
    }
    dice_of = {
        site: _keyed(run.pool({site: offer.evaluations["valid"]}, rounds))
        for site, offer in sorted(run.evaluations.items())
        if "valid" in offer.evaluations
    }
    return {
        "rounds": rounds,
        "foreground_dice": foreground_mean(list(announced.dice.values())),
        "dice": {"pooled": _keyed(announced.dice), **dice_of},
        "best_round": announced.best,
        "best_foreground_dice": run.best_dice if run.best_dice >= 0 else None,
        "test_foreground_dice": foreground_mean(list(announced.test_dice.values())),
        "test_dice": _keyed(announced.test_dice),
        "model": run.settings.model,
        "strategy": run.settings.strategy,
        "model_digest": announced.final,
        "sites": per_site,
    }


def _keyed(table: Mapping[str, float | None]) -> dict[str, float | None]:
    """Make class names safe as keys of the platform's result store, which refuses dots and dollars.

    A name that was safe stays as it is; one that becomes another's key gets a number, so that none is lost.
    """
    keyed: dict[str, float | None] = {}
    for name, value in table.items():
        safe = wanted = name.replace(".", "_").replace("$", "_")
        number = 2
        while safe != name and (safe in table or safe in keyed):
            safe, number = f"{wanted}_{number}", number + 1
        keyed[safe] = value
    return keyed
