"""What is left when a run ends: models, predictions and a page at each site; a page without images at the centre."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from computation import __version__
from computation.errors import ScanError
from computation.messages import Evaluation, Results
from computation.model import export
from computation.payload import Vector
from computation.report import Prediction, ReportData, Scores, write_centre_report, write_site_report
from computation.tracking import notices, read, rounds
from computation.training import inference
from computation.training.metrics import Counts, dice

if TYPE_CHECKING:
    from computation.local import SiteRun
    from computation.remote import CentreRun

__all__ = ["as_counts", "deliver", "dice_of", "report_centre", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    return {
        "coinstac-meshnet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def as_counts(evaluation: Evaluation) -> Counts:
    """Turn the counts of a message into counts that add up."""
    intersection, predicted, truth = (
        np.array(row, np.int64) for row in (evaluation.intersection, evaluation.predicted, evaluation.truth)
    )
    return Counts(intersection, predicted, truth, evaluation.scans)


def dice_of(evaluation: Evaluation, classes: tuple[str, ...]) -> dict[str, float | None]:
    """Return the Dice of each class from one site's counts."""
    return dict(zip(classes, dice(as_counts(evaluation)), strict=True))


def deliver(run: SiteRun, announced: Results, models: Mapping[str, Vector]) -> None:
    """Write a site's models, predictions and page into its output folder.

    Parameters
    ----------
    run : SiteRun
        The site, with its final model.
    announced : Results
        What the centre said of the models.
    models : mapping of str to numpy.ndarray
        The vectors of the `final` and the `best` model.
    """
    folder = run.folders.output
    metadata = export.Metadata(
        labels=run.settings.classes,
        preprocessing=dict(run.preparation),
        seed=run.settings.seed,
        versions=versions(),
        run={
            "run": run.name,
            "rounds": announced.rounds,
            "best_round": announced.best,
            "strategy": run.settings.strategy,
        },
    )
    for name in ("final", "best"):
        run.trainer.load_vector(models[name])
        export.save_model(folder / "model", run.trainer.model, metadata, name=name)
    predictions = _predict(run, folder)
    run.trainer.load_vector(models["final"])
    write_site_report(folder, _site_page(run, announced, predictions))


def _predict(run: SiteRun, folder: Path) -> tuple[Prediction, ...]:
    """Segment the site's test scans, or its validation scans where it has none, with the best model."""
    split = "test" if run.store.scans("test") else "valid"
    (folder / "predictions").mkdir(exist_ok=True)
    written = []
    for scan in run.store.scans(split):
        name = f"predictions/scan-{scan.key:04d}.nii.gz"
        try:
            labels = run.trainer.predict(scan)
            truth = run.store.read_label(scan, (0, 0, 0), scan.shape) if scan.labelled else None
        except ScanError as error:
            run.tracker.notice("skipped", f"scan {scan.key} was not segmented: {error.public}")
            continue
        inference.save(folder / name, labels, scan)
        scores = dice(Counts.of(labels, truth, len(run.settings.classes))) if truth is not None else ()
        written.append(Prediction(name, f"{split} scan", dict(zip(run.settings.classes, scores, strict=False))))
    return tuple(written)


def _site_page(run: SiteRun, announced: Results, predictions: tuple[Prediction, ...]) -> ReportData:
    entries = read(folder := run.folders.output / "journal.jsonl")
    splits = ("train", "valid", "test")
    return ReportData(
        run=run.name,
        site=run.folders.client,
        outcome=f"All {announced.rounds} rounds done; every site holds the same model.",
        planned=announced.rounds,
        classes=run.settings.classes,
        settings=run.settings.as_json(),
        member={"data": list(run.member.data), "device": run.member.device, "wandb": bool(run.member.wandb)},
        facts={"Architecture": run.settings.model, "Device": str(run.trainer.device), **versions(), **run.preparation},
        rounds=rounds(entries),
        best=announced.best,
        scores=_scores(announced),
        scans={run.folders.client: {split: len(run.store.scans(split)) for split in splits}},
        digests={"initial": run.plan.model if run.plan else "", "final": announced.final, "best": announced.best_model},
        notices=notices(entries),
        predictions=predictions,
        files=_FILES if folder.exists() else {},
    )


#: What else lies in a site's output folder.
_FILES = {
    "model/best.safetensors, model/best.json": "the model with the highest pooled validation Dice",
    "model/final.safetensors, model/final.json": "the model after the last round",
    "metrics.csv": "one row for each round",
    "journal.jsonl": "everything that was decided, skipped or replaced, one JSON object a line",
}


def _scores(announced: Results) -> tuple[Scores, ...]:
    tables = {"validation": announced.dice, "test": announced.test_dice}
    return tuple(Scores(f"Final model, {split} scans of all sites", table) for split, table in tables.items() if table)


def report_centre(run: CentreRun, summary: Mapping[str, Any]) -> None:
    """Write the centre's page: metrics only, no image and nothing of any one scan."""
    assert run.results is not None
    entries = read(run.folders.output / "journal.jsonl")
    page = ReportData(
        run=run.name,
        outcome=f"All {run.results.rounds} rounds done; every site holds the same model.",
        planned=run.results.rounds,
        classes=run.settings.classes,
        settings=run.settings.as_json(),
        facts={"Architecture": run.settings.model, **versions()},
        rounds=rounds(entries),
        best=run.results.best,
        scores=_scores(run.results),
        scans={site: offer.scans for site, offer in sorted(run.offers.items())},
        digests={"final": run.results.final, "best": run.results.best_model},
        site_digests={site: facts["model_digest"] for site, facts in summary["sites"].items()},
        notices=notices(entries),
    )
    write_centre_report(run.folders.output, page)
