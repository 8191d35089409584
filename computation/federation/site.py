"""What a site knows of a run, and what it does in each phase; `local` says when.

A site raises only when it can never contribute again, because COINSTAC then ends the run for everybody; what goes wrong
in one round is reported as `skipped`, with one of a few fixed reasons and never the site's own text.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from computation.coinstac.node import Folders
from computation.errors import (
    ConsensusError,
    DeviceError,
    MessageError,
    ResumeError,
    ScanError,
    StoreError,
)
from computation.federation import brought, counting, initial, origin, portions, privacy, results, screening, selection
from computation.federation.given import given
from computation.federation.masking import circle
from computation.federation.masking import site as masking
from computation.federation.origin import CENTRE, Origin
from computation.federation.withholding import Threshold
from computation.model import architecture, native, vector
from computation.scans.store.opening import open_store
from computation.settings import Member, Settings, parse
from computation.strategies import Combined, named
from computation.strategies.remembering import recall, remember
from computation.tracking import RoundNumbers, Tracker
from computation.training.faults import NotFiniteError
from computation.training.privacy.mechanism import Mechanism, Noise
from computation.training.privacy.secret import Secret
from computation.training.trainer import Trainer
from computation.wire import payload
from computation.wire.messages import (
    REASONS,
    STOPS,
    Arrived,
    Evaluation,
    FinishOffer,
    JoinOffer,
    Masked,
    Plan,
    Results,
    RoundOffer,
    Unmasking,
    Verdict,
)
from computation.wire.payload import COMBINATION, CONTRIBUTION, Payload, Vector

__all__ = ["SiteRun"]

#: What the arrays of a checkpoint that hold validated batch-norm statistics are called, before the round.
_VALIDATED = "validated-statistics."


class SiteRun:
    """What a site knows of a run.

    Parameters
    ----------
    folders : Folders
        COINSTAC's directories.
    trainer : callable
        Makes the trainer from architecture, settings, rounds, store, site and device.
    """

    def __init__(self, folders: Folders, trainer: Callable[..., Trainer] = Trainer) -> None:
        self.folders = folders
        self.origin = Origin(folders.client, folders.checkpoints)
        self.tracker = Tracker(folders.output)
        self.make_trainer = trainer
        self.inputs: dict[str, Any] = {}
        self.settings, self.member = Settings(), Member()
        self.plan: Plan | None = None
        self.round = 1
        self.ended = False
        self.offer: RoundOffer | None = None
        self.masks: masking.Masks | None = None
        self.clock = time.monotonic()
        self.common = ""
        #: The model to start from, where this site has a copy of the one that the owner names.
        self.brought: Vector | None = None
        #: This site's own batch-norm statistics by the round after which they were validated: the best one's, and the
        #: latest's until the centre says which is the best. Empty where none are its own; see `_keep_statistics`.
        self.statistics: dict[int, Vector] = {}

    @property
    def name(self) -> str:
        """Name of the run; empty before the plan."""
        return self.plan.run if self.plan else ""

    @property
    def keep(self) -> int:
        """Number of checkpoints to keep."""
        return self.settings.keep_checkpoints

    def join(self, inputs: Mapping[str, Any]) -> JoinOffer:
        """Check the inputs and the database, and say what this site brings."""
        self._read(inputs)
        self._open()
        self._make(1)
        brought.check_role(self.trainer, self.threshold.labelled)
        initial.check_policy(self.trainer, self.settings)
        privacy.check_model(self.trainer, self.settings)
        if self.given.model:
            self.brought = initial.load(self.given.model, self.trainer, self.settings)
        return JoinOffer(
            settings=self.settings.as_json(),
            classes=self.store.label_names,
            scans=brought.scan_counts(self.store, self.trainer),
            labelled=self.threshold.labelled,
            voxels=self.threshold.voxels,
            steps=self.trainer.steps_per_epoch,
            preparation=self.preparation,
            device=self.trainer.device.type,
            versions=results.versions(),
            masking_key=masking.joined(self.folders.checkpoints) if self._masked else "",
        )

    @property
    def trains(self) -> bool:
        """Whether this site has scans to train on; it only evaluates otherwise."""
        return self.trainer.samples > 0

    @property
    def _masked(self) -> bool:
        """Whether this site's updates are hidden under masks."""
        return self.settings.secure_aggregation and self.trains

    def _read(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = dict(inputs)
        self.settings, self.member = parse(inputs)

    def _open(self) -> None:
        self.given = given(self.folders.base, self.member)
        self.store = open_store(self.given.database, classes=self.settings.classes)
        self.scans = self.store.identity()
        self.preparation = brought.preparation(self.store)
        self.threshold = Threshold(self.settings.min_scans, *brought.labelled_counts(self.store))

    def _make(self, rounds: int, batches: int | None = None) -> None:
        self.trainer = self.make_trainer(
            architecture.from_settings(self.settings),
            self.settings,
            rounds,
            store=self.store,
            site=self.folders.client,
            device=self.member.device,
            batches=batches,
        )
        self.strategy = named(self.settings, self.folders.client)

    def prepare(self, plan: Plan) -> None:
        """Take over the plan, and make the trainer for it."""
        self.plan = plan
        self.trainer.close()
        self._make(plan.rounds, portions.own(plan, self.folders.client, self.settings))
        if plan.manifest != self.trainer.manifest.digest:
            raise ConsensusError("the centre built another architecture than this site; use one version of the image")
        self._hide()
        self._mask()

    def _hide(self, *, resumed: bool = False) -> None:
        """Give the trainer the noise that the settings ask for, if the plan's rounds are within the budget."""
        if not (self.settings.dp and self.trains and self.plan):
            return
        scans, batches = self.trainer.samples, self.plan.batches[self.folders.client]
        privacy.check_plan(self.settings, scans, batches, self.plan.rounds)
        secret = Secret(self.folders.checkpoints, resumed=resumed)
        noise = Noise.of(self.settings, scans, batches, privacy.noise_share(self.settings, self.plan))
        self.trainer.privacy = Mechanism(noise, secret, self.name, self.plan.rounds)

    def _mask(self) -> None:
        """Take over what masks updates, where the settings ask for it."""
        if self._masked and self.plan:
            told = (self.folders.client, self.trainer.samples, self.folders.checkpoints, self.tracker)
            self.masks = masking.Masks(self.plan, self.settings, *told)

    def start(self, values: Vector) -> None:
        """Take over the initial model that every site starts from."""
        assert self.plan is not None
        plan = self.plan
        self.trainer.load_vector(values)
        self.common = plan.model
        if plan.model != (self.settings.initial_model or plan.model):
            raise ConsensusError("the centre does not start from the model that setting 'initial_model' names")
        self._check_common("at the start")
        self._track()
        self.tracker.event("plan", **plan.as_json(), settings=self.settings.as_json())
        origin.tell(self.tracker, plan)
        for note in plan.notes:
            self.tracker.notice("difference", note)
        self.threshold.tell(self.tracker)
        if self.masks:
            self.masks.tell()
        self.tracker.event("device", reason=self.trainer.choice.reason, arithmetic=self.trainer.arithmetic)
        if self.trainer.choice.fallback:
            self.tracker.notice("fallback", self.trainer.choice.reason)
        self.tracker.event("kernels", reason=native.status().reason)
        if self.trainer.device.type == "cpu" and not native.status().available:
            self.tracker.notice("fallback", native.status().reason)

    def _track(self) -> None:
        assert self.plan is not None
        self.tracker.begin(
            run=self.plan.run,
            rounds=self.plan.rounds,
            classes=self.settings.classes,
            site=self.folders.client,
            wandb=self.member.wandb,
            config=self.settings.as_json(),
        )

    def receive(self, name: str, kind: int, round: int, model: str = "") -> Vector:
        """Read what the centre sent; parameters and errors as for `payload.read`."""
        return payload.read(
            self.folders.base / f"{payload.PREFIX}{name}.bin",
            kind=kind,
            round=round,
            manifest=self.trainer.manifest,
            dtype=self.trainer.dtype,
            model=model,
            run=self.name,
            signed=self.origin.wanted(CENTRE, name),
        )

    def absorb(self, verdict: Verdict) -> None:
        """Apply what the centre combined, and check that this leads to the common model."""
        if verdict.round != self.round:
            raise MessageError(f"the centre closed round {verdict.round}; wanted round {self.round}")
        self._check_names(verdict)
        self._check_common(f"before the end of round {self.round}")
        if not verdict.void:
            values = self.receive("combination", COMBINATION, self.round, self.trainer.digest())
            loss = verdict.loss or 0.0
            combined = Combined(self.round, verdict.counted, loss, values, verdict.clipped)
            self.strategy.apply(self.trainer, combined)
        size = payload.length(self.trainer.manifest, self.trainer.dtype)
        gave = self.offer is not None and self.offer.status == "ok"
        sent = circle.length(self.trainer.manifest) if self.masks else size
        self.close(verdict, sent=sent if gave else 0, received=0 if verdict.void else size)

    def close(self, verdict: Verdict, sent: int = 0, received: int = 0) -> RoundNumbers:
        """Check that the round led to the common model, and write down what it came to.

        Parameters
        ----------
        verdict : Verdict
            On the round.
        sent, received : int
            Bytes of payloads, where they are known.

        Returns
        -------
        RoundNumbers
            As they were written down.
        """
        self.common = verdict.model
        self._check_common(f"after round {self.round}")
        selection.tell(self.tracker, verdict.missing, self.round)
        screening.tell(self.tracker, self.folders.client, verdict)
        if verdict.stop:
            self.tracker.notice("stopped", f"after round {self.round}: {STOPS[verdict.stop]}", round=self.round)
        self.statistics = {round: values for round, values in self.statistics.items() if round == verdict.best}
        numbers = replace(self._numbers(verdict), sent=sent, received=received)
        self.tracker.round(numbers)
        self.round += 1
        return numbers

    def _check_names(self, verdict: Verdict) -> None:
        """Refuse a verdict of sites or classes that are not this run's: it would be kept, and shown, every round."""
        sites = set(self.plan.sites) if self.plan else set()
        if not {*verdict.counted, *verdict.skipped, *verdict.missing} <= sites:
            raise MessageError("the centre's verdict names a site that is not in its plan; wanted those of this run")
        if not set(verdict.dice) <= set(self.settings.classes):
            raise MessageError("the centre's verdict names a class that is not of this run; wanted the owner's classes")

    def _check_common(self, when: str) -> None:
        """Stop the run if this site's model is not the one that all hold.

        Raises
        ------
        ConsensusError
            Naming this site.
        """
        held = self.trainer.digest()
        if held != self.common:
            raise ConsensusError(
                f"{when} the model of site {self.folders.client} is {held[:12]} and not the common one, "
                f"{self.common[:12]}; the run stops, since gradients of different models must not be averaged"
            )

    def _numbers(self, verdict: Verdict) -> RoundNumbers:
        own, now = self.offer, time.monotonic()
        seconds, self.clock = now - self.clock, now
        return RoundNumbers(
            round=self.round,
            digest=self.trainer.digest(),
            loss=verdict.loss,
            own_loss=(self.masks.loss if self.masks else own.loss) if own and own.status == "ok" else None,
            learning_rate=self.trainer.rate(self.round),
            sites=len(self.plan.sites) - len(self.plan.evaluators) if self.plan else 0,
            counted=verdict.counted,
            skipped=verdict.skipped,
            void=verdict.void,
            samples=own.samples if own else 0,
            unreadable=own.unreadable if own else 0,
            seconds=seconds,
            own_seconds=own.seconds if own else 0.0,
            validated=verdict.validated,
            dice=verdict.dice,
            missing=verdict.missing,
            clipped=verdict.clipped,
            own_dice=counting.dice_of(own.validation, self.settings.classes) if own and own.validation else {},
            best=verdict.best,
            epsilon=self._epsilon(),
        )

    def _epsilon(self) -> float | None:
        assert self.plan is not None
        batches = self.plan.batches.get(self.folders.client, 0)
        return privacy.spent(self.settings, self.trainer.samples, batches, self.round, self.plan.rounds)

    def contribute(self) -> RoundOffer:
        """Compute this round's contribution, or say why there is none."""
        began = time.monotonic()
        model = self.trainer.digest()
        validation = self.validate(self.round - 1)
        if not self.trains:
            self.offer = RoundOffer(
                self.round, "evaluates", "", 0, 0.0, model, seconds=_since(began), validation=validation
            )
            return self.offer
        self.limit(began)
        reason, loss, samples, masked = "", 0.0, 0, None
        try:
            values, loss, samples = self.strategy.contribute(self.trainer, self.round)
            item, masked = self._item(values, loss, model)
        except Exception as error:
            # Whatever goes wrong in one round costs this site the round and never the others their run.
            reason, loss, samples = self.skip(error), 0.0, 0
        else:
            self.origin.ship(self.folders.transfer, "contribution", item)
        self.offer = RoundOffer(
            round=self.round,
            status="skipped" if reason else "ok",
            reason=reason,
            samples=samples,
            loss=0.0 if masked else loss,
            model=model,
            unreadable=len(self.trainer.skipped),
            seconds=_since(began),
            validation=validation,
            masked=masked,
        )
        self.offer = privacy.keep_back(self.settings, self.offer)
        return self.offer

    def _item(self, values: Vector, loss: float, model: str) -> tuple[Payload, Masked | None]:
        """Return what travels of a contribution, and what goes along with it where it is masked."""
        of, site = self.trainer, self.folders.client
        if not self.masks:
            return Payload(CONTRIBUTION, self.round, of.manifest, values, model, site=site, run=self.name), None
        told = 0.0 if self.settings.dp else loss  # which has no noise
        words, masked = self.masks.hide(values, self.strategy.origin(of), of.parts, told, self.round)
        return masking.payload_of(words, of, self.round, model, site, self.name), masked

    def unmask(self, arrived: Arrived) -> Unmasking:
        """Give what takes the masks off the round's sum; a site that only evaluates has nothing to give."""
        if not self.masks:
            return Unmasking(self.round, self.trainer.digest(), {}, {})
        return self.masks.answer(arrived, self.offer)

    def miss(self) -> RoundOffer:
        """Leave out a round that was closed while this site was away; only its model, of the round before, goes on."""
        if self._validates(self.round - 1):
            self._keep_statistics(self.round - 1)
        self.tracker.notice("skipped", "a round was closed while this site was away", round=self.round)
        self.offer = RoundOffer(self.round, "skipped", "absent", 0, 0.0, self.trainer.digest())
        return self.offer

    def limit(self, began: float) -> None:
        """Give the round that began at this moment the time that the owner allows."""
        self.trainer.deadline = began + self.settings.time_limit if self.settings.time_limit else None

    def skip(self, error: Exception) -> str:
        """Write down why this round was skipped, and return the protocol's word for it; called where it is caught."""
        reason = _reason(error)
        self.tracker.event("skipped", round=self.round, reason=reason, traceback=traceback.format_exc())
        self.tracker.notice("skipped", f"a round was skipped: {REASONS[reason]}", round=self.round)
        return reason

    def validate(self, after: int) -> Evaluation | None:
        """Count voxels with the model as it stands, which is the one after a round, where that is to be validated."""
        if not self._validates(after):
            return None
        self._keep_statistics(after)
        return counting.evaluate(self.trainer, self.tracker, "valid", after + 1, self.threshold)

    def _validates(self, after: int) -> bool:
        return after > 0 and after % self.settings.validate_every == 0

    def _keep_statistics(self, after: int) -> None:
        """Keep the statistics that are about to be validated: they move on with every batch and never travel."""
        if self.settings.norm_policy != "local":
            return
        own = vector.statistics(self.trainer.model)
        if own.size:
            self.statistics[after] = vector.gather(self.trainer.model, own)

    def finish(self, verdict: Verdict, *, missed: bool = False) -> FinishOffer:
        """Apply the last combination like any other, and count once more, unless nobody waits for that any longer."""
        self.absorb(verdict)
        if not missed:
            return self.count()
        self.ended = True
        self.tracker.notice("skipped", "the last counts were closed while this site was away", round=self.round)
        return FinishOffer("evaluated", self.trainer.digest(), {})

    def count(self) -> FinishOffer:
        """Count with the final model."""
        self.ended = True
        counts = {
            split: counting.evaluate(self.trainer, self.tracker, split, self.round, self.threshold)
            for split in ("valid", "test")
        }
        return FinishOffer("evaluated", self.trainer.digest(), {k: v for k, v in counts.items() if v is not None})

    def deliver(self, announced: Results, models: Mapping[str, Vector]) -> FinishOffer:
        """Put the models, predictions and report into the site's output folder, and confirm."""
        for name, digest in (("final", announced.final), ("best", announced.best_model)):
            if payload.digest(self.trainer.manifest, models[name]) != digest:
                raise ConsensusError(f"the {name} model does not have the digest that the centre announced")
        if announced.final != self.trainer.digest():
            raise ConsensusError("the final model of the centre is not the one that this site holds")
        selection.tell(self.tracker, announced.missing, self.round)
        results.deliver(self._outcome(announced), models)
        self.trainer.close()
        self.tracker.close()
        return FinishOffer("done", announced.final)

    def _outcome(self, announced: Results) -> results.SiteOutcome:
        assert self.plan is not None
        return results.SiteOutcome(
            site=self.folders.client,
            folder=self.folders.output,
            settings=self.settings,
            member=self.member,
            plan=self.plan,
            store=self.store,
            preparation=self.preparation,
            trainer=self.trainer,
            tracker=self.tracker,
            announced=announced,
            best_statistics=self.statistics.get(announced.best),
        )

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return what a restarted site needs; a Weights & Biases key is left to the environment and never written."""
        arrays, trainer = self.trainer.state() if self.plan else ({}, {})
        remembered, strategy = remember(self.strategy)
        validated = {f"{_VALIDATED}{round}": values for round, values in self.statistics.items()}
        arrays = {**arrays, **remembered, **validated}
        wandb = {key: value for key, value in self.member.wandb.items() if key != "api_key"}
        values = {
            "inputs": {**self.inputs, "wandb": wandb},
            "plan": self.plan.recorded if self.plan else None,
            "said": self.origin.said,
            "trainer": trainer,
            "strategy": strategy,
            "round": self.round,
            "journal": self.tracker.position,
            "ended": self.ended,
            "counted": self.threshold.record(),
            "scans": self.scans,
            "offer": self.offer.as_json() if self.offer else None,
        }
        return arrays, values

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Go back to a recorded state."""
        self.tracker.go_on(values["journal"])
        self._read(values["inputs"])
        self._open()
        # Of a run that another version began it is not known.
        if values.get("scans", self.scans) != self.scans:
            raise ResumeError(
                "the scan database is not the one with which this site joined, and its counts would tell the "
                "difference; put that one back, or take part in another run",
                str(self.given.database),
            )
        self.threshold.restore(values["counted"])
        self.plan = Plan.parse(values["plan"]) if values["plan"] else None
        self.origin.go_on(self.plan, values["said"])
        if not self.plan:
            self._make(1)
        else:
            self._make(self.plan.rounds, portions.own(self.plan, self.folders.client, self.settings))
            self._hide(resumed=True)
            kept = [name for name in arrays if name.startswith(_VALIDATED)]
            self.statistics = {int(name.removeprefix(_VALIDATED)): arrays[name] for name in kept}
            self.trainer.load_state({k: v for k, v in arrays.items() if k not in kept}, values["trainer"])
            recall(self.strategy, arrays, values["strategy"])
            self._mask()
            self.common = self.trainer.digest()
            self._track()
        self.round, self.ended = values["round"], values["ended"]
        self.offer = RoundOffer.parse(values["offer"]) if values["offer"] else None


def _since(began: float) -> float:
    return round(time.monotonic() - began, 4)


def _reason(error: Exception) -> str:
    """Return the word of the protocol for what went wrong in this round."""
    if isinstance(error, MemoryError | DeviceError):
        return "out-of-memory"
    if isinstance(error, ScanError | StoreError):
        return "unreadable"
    if isinstance(error, masking.RepeatedError):
        return "repeated"
    return error.reason if isinstance(error, NotFiniteError) else "failed"
