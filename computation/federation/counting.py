"""Voxel counts of a model on one site's scans: how they are found, travel and become Dice."""

from __future__ import annotations

import traceback

import numpy as np

from computation.errors import public_text
from computation.federation.withholding import Threshold
from computation.tracking import Tracker
from computation.training.metrics import Counts, dice
from computation.training.trainer import Trainer
from computation.wire.messages import Evaluation

__all__ = ["as_counts", "dice_of", "evaluate", "tell_fallbacks"]


def evaluate(trainer: Trainer, tracker: Tracker, split: str, round: int, threshold: Threshold) -> Evaluation | None:
    """Count the voxels of one split with the model as it stands in a round, which is the one after the round before.

    Parameters
    ----------
    trainer : Trainer
        The site's.
    tracker : Tracker
        Is told of scans that could not be read, and of what failed.
    split : str
        `valid` or `test`.
    round : int
        The round that has begun, from 1.
    threshold : Threshold
        Says which counts may leave the site.

    Returns
    -------
    Evaluation or None
        None where the split has no labelled scan, cannot be evaluated, or has counts that must not leave.
    """
    if threshold.shut(split):
        return None
    try:
        counts = trainer.evaluate(split)
    except Exception as error:
        # Whatever goes wrong with one evaluation costs this site that and never the others their run.
        tracker.event("evaluation-failed", round=round, split=split, traceback=traceback.format_exc())
        tracker.notice("skipped", f"split {split!r} was not evaluated: {public_text(error)}", round=round)
        return None
    tell_fallbacks(trainer, tracker, round)
    if counts is None:
        return None
    if counts.skipped:
        said = f"{len(counts.skipped)} scans of split {split!r} could not be read and were not evaluated"
        tracker.notice("skipped", said, round=round, scans=counts.skipped)
    if lack := threshold.lack(split, counts):
        tracker.notice("withheld", f"the counts of split {split!r} did not leave this site: {lack}", round=round)
        return None
    intersection, predicted, truth = (
        tuple(map(int, row)) for row in (counts.intersection, counts.predicted, counts.truth)
    )
    return Evaluation(round - 1, intersection, predicted, truth, counts.scans)


def as_counts(evaluation: Evaluation) -> Counts:
    """Turn the counts of a message into counts that add up."""
    intersection, predicted, truth = (
        np.array(row, np.int64) for row in (evaluation.intersection, evaluation.predicted, evaluation.truth)
    )
    return Counts(intersection, predicted, truth, evaluation.scans)


def dice_of(evaluation: Evaluation, classes: tuple[str, ...]) -> dict[str, float | None]:
    """Return the Dice of each class from one site's counts."""
    return dict(zip(classes, dice(as_counts(evaluation)), strict=True))


def tell_fallbacks(trainer: Trainer, tracker: Tracker, round: int) -> None:
    """Note what did not go as it should when the trainer labelled scans."""
    while trainer.fallbacks:
        tracker.notice("fallback", trainer.fallbacks.pop(), round=round)
