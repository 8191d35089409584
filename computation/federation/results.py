"""What is left when a run ends: models, predictions and a page at each site; a page without images at the centre."""

from __future__ import annotations

import platform
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from computation import __version__
from computation.errors import public_text
from computation.federation import origin
from computation.federation.brought import scan_counts
from computation.federation.counting import dice_of, tell_fallbacks
from computation.federation.masking import circle
from computation.model import export, native, vector
from computation.model.network import parameter_count
from computation.report import Prediction, ReportData, Scores, write_centre_report, write_site_report
from computation.report.card import card
from computation.scans.making.native import to_native
from computation.scans.store.opening import Store
from computation.settings import Member, Settings
from computation.tracking import Tracker, lines, notices, read, rounds
from computation.training import inference
from computation.training.metrics import Counts, dice
from computation.training.preprocessing import preprocessing_of
from computation.training.trainer import Trainer
from computation.wire.messages import STOPS, FinishOffer, JoinOffer, Plan, Results
from computation.wire.payload import Vector

__all__ = [
    "CentreOutcome",
    "SiteOutcome",
    "deliver",
    "models_of",
    "report_centre",
    "versions",
]


@dataclass(frozen=True, eq=False)
class SiteOutcome:
    """Everything that a site has at the end of a run.

    Attributes
    ----------
    site : str
        Its id.
    folder : Path
        Its output folder.
    settings, member, plan
        As it was told.
    store : Store
        Its scans.
    preparation : dict of str
        How they were prepared.
    trainer : Trainer
        Holds the final model.
    tracker : Tracker
        For what must not be hidden.
    announced : Results
        What the centre said of the models.
    best_statistics : numpy.ndarray or None
        Batch-norm statistics with which this site validated the best model, where they are its own; none where the
        vector has them, or where the best model is the final one, whose statistics the trainer holds.
    """

    site: str
    folder: Path
    settings: Settings
    member: Member
    plan: Plan
    store: Store
    preparation: Mapping[str, str]
    trainer: Trainer
    tracker: Tracker
    announced: Results
    best_statistics: Vector | None = None


@dataclass(frozen=True)
class CentreOutcome:
    """Everything that the centre has at the end of a run; metrics only."""

    folder: Path
    settings: Settings
    plan: Plan
    offers: Mapping[str, JoinOffer]
    announced: Results
    digests: Mapping[str, str]
    evaluations: Mapping[str, FinishOffer]
    parameters: int


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    return {
        "coinstac-meshnet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def models_of(announced: Results) -> tuple[str, str]:
    """Say what the final and the best model are, in the words of the summary, the page and the predictions' folder."""
    final = f"the final model, after round {announced.rounds}"
    if not announced.chosen:
        return final, f"{final}: no complete validation chose a best one"
    return final, f"the best model, after round {announced.best}, chosen by its pooled validation Dice"


def outcome(announced: Results, planned: int) -> str:
    """Say in one sentence how a run ended."""
    if announced.rounds == planned and not announced.stop:
        return f"All {planned} rounds done; every site holds the same model."
    why = STOPS.get(announced.stop, "it was ended")
    return f"Ended after {announced.rounds} of {planned} planned rounds: {why}. Every site holds the same model."


def deliver(run: SiteOutcome, models: Mapping[str, Vector]) -> None:
    """Write a site's models, predictions and page into its output folder.

    Parameters
    ----------
    run : SiteOutcome
        What the site has; its trainer holds the final model again afterwards.
    models : mapping of str to numpy.ndarray
        The vectors of the `final` and the `best` model.
    """
    announced = run.announced
    metadata = export.Metadata(
        labels=run.settings.classes,
        preprocessing=preprocessing_of(run.store, run.settings).as_json(),
        seed=run.settings.seed,
        versions=versions(),
        run={
            "run": run.plan.run,
            "rounds": announced.rounds,
            "best_round": announced.best,
            "strategy": run.settings.strategy,
        },
    )
    held = _statistics(run.trainer)
    best = held if run.best_statistics is None else run.best_statistics
    for name, statistics in (("final", held), ("best", best)):
        _hold(run.trainer, models[name], statistics)
        export.save_model(run.folder / "model", run.trainer.model, metadata, name=name)
    predictions = _predict(run)
    _hold(run.trainer, models["final"], held)
    page = _site_page(run, predictions)
    write_site_report(run.folder, page)
    last = [item for item in page.rounds if item.own_dice][-1:]
    own = {run.site: [Scores(f"validation scans, round {item.validated}", item.own_dice) for item in last]}
    size = parameter_count(run.trainer.model)
    told = card(page, parameters=size, preparation=metadata.preprocessing, site_scores=own)
    lines.replace(run.folder / "model" / "README.md", told)


def _statistics(trainer: Trainer) -> Vector:
    """Return the batch-norm statistics that the network holds; empty without batch norm."""
    return vector.gather(trainer.model, vector.statistics(trainer.model))


def _hold(trainer: Trainer, values: Vector, statistics: Vector) -> None:
    """Take over a whole model: the common vector, which brings its statistics where they travel, else these."""
    vector.scatter(trainer.model, vector.statistics(trainer.model), statistics)
    trainer.load_vector(values)


def _predict(run: SiteOutcome) -> tuple[Prediction, ...]:
    """Segment the site's test scans, or its validation scans where it has none, with the best model."""
    split = "test" if run.store.scans("test") else "valid"
    (run.folder / "predictions").mkdir(exist_ok=True)
    _, chosen = models_of(run.announced)
    told = f"Segmentations of this site's {_SPLITS[split]} scans by {chosen}\nSHA-256: {run.announced.best_model}\n"
    lines.replace(run.folder / "predictions" / "README.txt", told)
    written = []
    scans = run.store.scans(split)
    for number, scan in enumerate(scans, 1):
        run.tracker.say(f"segmenting {split} scan {number}/{len(scans)}")
        name = f"predictions/scan-{scan.key:04d}.nii.gz"
        try:
            labels = run.trainer.predict(scan)
            truth = run.store.read_label(scan, (0, 0, 0), scan.shape) if scan.labelled else None
        except Exception as error:  # one scan's segmentation is not worth everybody's run
            run.tracker.event("segmentation-failed", scan=scan.key, traceback=traceback.format_exc())
            run.tracker.notice("skipped", f"scan {scan.key} was not segmented: {public_text(error)}")
            continue
        inference.save(run.folder / name, labels, scan)
        if scan.native is not None:
            inference.write(run.folder / name.replace(".nii", "-native.nii"), to_native(labels, scan))
        scores = dice(Counts.of(labels, truth, len(run.settings.classes))) if truth is not None else ()
        written.append(
            Prediction(
                name, f"{_SPLITS[split]} scan, best model", dict(zip(run.settings.classes, scores, strict=False))
            )
        )
    tell_fallbacks(run.trainer, run.tracker, run.announced.rounds)
    return tuple(written)


def _site_page(run: SiteOutcome, predictions: tuple[Prediction, ...]) -> ReportData:
    announced, entries = run.announced, read(run.folder / "journal.jsonl")
    done = rounds(entries)
    best = announced.best if announced.chosen else -1
    return ReportData(
        run=run.plan.run,
        site=run.site,
        outcome=outcome(announced, run.plan.rounds),
        planned=run.plan.rounds,
        classes=run.settings.classes,
        settings=run.settings.as_json(),
        member={"data": list(run.member.data), "device": run.member.device, "wandb": _wandb(run.member)},
        facts={
            "Architecture": run.settings.model,
            "Device": str(run.trainer.device),
            "Kernels": native.status().reason,
            **origin.facts(run.plan),
            **versions(),
            **_masks(run.plan, run.settings),
            **run.preparation,
        },
        keys=origin.fingerprints(run.plan),
        rounds=done,
        best=best,
        scores=_scores(announced),
        scans={run.site: scan_counts(run.store, run.trainer)},
        digests={"initial": run.plan.model, "final": announced.final, "best": announced.best_model},
        notices=notices(entries),
        predictions=predictions,
        files={_BEST: _CHOSEN if best >= 0 else _NOT_CHOSEN, **_FILES},
    )


def _masks(plan: Plan, settings: Settings) -> dict[str, str]:
    """Return the fingerprint that sites compare, where updates are masked."""
    return {"Fingerprint of the masks' keys": circle.fingerprint(plan, settings)} if plan.masking else {}


def _wandb(member: Member) -> str:
    """Say whether the site logs to Weights & Biases, and nothing of where or as whom."""
    return "on" if member.wandb else "off"


_BEST = "model/best.safetensors, model/best.json"
_CHOSEN = "the model with the highest pooled validation Dice"
_NOT_CHOSEN = "the model after the last round, too: nothing was validated whole, so none could be chosen as the best"
_SPLITS = {"valid": "validation", "test": "test"}

#: What else lies in a site's output folder.
_FILES = {
    "model/final.safetensors, model/final.json": "the model after the last round",
    "model/README.md": "the model card: data, settings, accuracy, intended use and limits",
    "metrics.csv": "one row for each round",
    "journal.jsonl": "everything that was decided, skipped or replaced, one JSON object a line",
}


def _scores(announced: Results) -> tuple[Scores, ...]:
    tables = {
        "validation": (announced.dice, announced.missing),
        "test": (announced.test_dice, announced.test_missing),
    }
    return tuple(
        Scores(f"Final model, {split} scans of {_whose(missing)}", dice)
        for split, (dice, missing) in tables.items()
        if dice
    )


def _whose(missing: Mapping[str, str]) -> str:
    lacking = "; ".join(f"{site}: {lack}" for site, lack in sorted(missing.items()))
    return f"the sites that are in it ({lacking})" if lacking else "all sites"


def report_centre(run: CentreOutcome) -> None:
    """Write the centre's page: metrics only, no image and nothing of any one scan."""
    announced, entries = run.announced, read(run.folder / "journal.jsonl")
    done = rounds(entries)
    page = ReportData(
        run=run.plan.run,
        outcome=outcome(announced, run.plan.rounds),
        planned=run.plan.rounds,
        classes=run.settings.classes,
        settings=run.settings.as_json(),
        facts={
            "Architecture": run.settings.model,
            **origin.facts(run.plan),
            **versions(),
            **_masks(run.plan, run.settings),
        },
        keys=origin.fingerprints(run.plan),
        rounds=done,
        best=announced.best if announced.chosen else -1,
        scores=_scores(announced),
        scans={site: offer.scans for site, offer in sorted(run.offers.items())},
        digests={"initial": run.plan.model, "final": announced.final, "best": announced.best_model},
        site_digests=run.digests,
        notices=notices(entries),
    )
    write_centre_report(run.folder, page)
    classes = run.settings.classes
    site_scores = {
        site: [
            Scores(f"final model, {_SPLITS[split]} scans", dice_of(one, classes), one.scans)
            for split, one in offer.evaluations.items()
        ]
        for site, offer in run.evaluations.items()
    }
    preparation = {
        site: ", ".join(f"{name} {value}" for name, value in offer.preparation.items())
        for site, offer in sorted(run.offers.items())
    }
    told = card(page, parameters=run.parameters, preparation=preparation, site_scores=site_scores)
    lines.replace(run.folder / "model-card.md", told)
