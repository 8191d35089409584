"""`coinstac-meshnet evaluate`: how good a model is on a database, or a label map against the truth."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from computation import terminal
from computation.commands import model as models
from computation.commands import outputs, segmenting
from computation.commands.distances import ClassScore, compare
from computation.commands.model import Model
from computation.errors import (
    DeviceError,
    ImportScanError,
    MeshNetError,
    ModelError,
    ScanError,
    SettingsError,
    StoreError,
)
from computation.scans.making import images, labels
from computation.scans.making.conform import Target, conform
from computation.scans.making.wall import wall
from computation.scans.store.opening import Store, open_store
from computation.scans.store.records import Affine, Scan, spacing_of
from computation.settings import Settings
from computation.terminal import shown
from computation.training.metrics import Counts, dice, mean
from computation.training.preprocessing import preprocessing_of

__all__ = ["Evaluated", "evaluate_files", "evaluate_store", "run"]

_COLUMNS = (
    "scan",
    "label",
    "name",
    "dice",
    "hausdorff95_mm",
    "truth_ml",
    "predicted_ml",
    "difference_ml",
    "difference_percent",
)
_TITLE = "per scan: mean ± standard deviation; volume: predicted minus true"
_SQLITE = b"SQLite format 3\0"

#: The highest label value, and the most different ones: above, somebody compares images.
_HIGHEST, _MOST = 65535, 256


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Scores of several scans.

    Attributes
    ----------
    classes : tuple of str
        Names.
    values : tuple of int
        Label value of each class.
    scans : tuple of (str, tuple of ClassScore)
        Name of each scan, and its classes.
    counts : Counts
        Voxels of all scans together.
    """

    classes: tuple[str, ...]
    values: tuple[int, ...]
    scans: tuple[tuple[str, tuple[ClassScore, ...]], ...]
    counts: Counts


def run(options: argparse.Namespace) -> int:
    """Carry out `evaluate`.

    Returns
    -------
    int
        Exit status: 1 if a scan could not be evaluated.

    Raises
    ------
    MeshNetError
        If nothing can be evaluated.
    """
    console = terminal.console()
    failed = 0
    database = _is_database(options.truth)
    _check_together(options, database)
    if database:
        model = models.read(options.subject, options.device)
        with open_store(options.truth, classes=model.metadata.labels) as store:
            split = None if options.split == "all" else options.split or "test"
            found, failed = evaluate_store(model, store, split, flips=options.flips, console=console)
    else:
        found = evaluate_files(options.subject, options.truth, options.labels)
    _show(console, found)
    if options.csv is not None:
        outputs.write_table(options.csv, _COLUMNS, list(_rows(found)))
        console.print(f"every scan and class: {shown(options.csv)}")
    return 1 if failed else 0


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        wanted = "wanted a scan database or a label map, named after the model or the prediction"
        raise MeshNetError(f"the truth cannot be read; {wanted}", str(error)) from error


def _check_together(options: argparse.Namespace, database: bool) -> None:
    """Refuse what would be left unused without a word."""
    if database and options.labels:
        raise SettingsError("--labels is for a true label map; the labels in a database are classes already")
    if not database and (options.split or options.flips):
        raise SettingsError("--split and --flips are for a model on a scan database, and the truth is none")
    if not database and (options.subject.is_dir() or options.subject.suffix == ".json"):
        raise ModelError(
            "a model is evaluated on a scan database, and the truth is none; label the scan with `predict`, then "
            "compare the two label maps"
        )


def evaluate_store(
    model: Model, store: Store, split: str | None, *, flips: bool = False, console: Console
) -> tuple[Evaluated, int]:
    """Label the scans of a database and compare with the labels that it holds.

    Parameters
    ----------
    model : Model
        What to evaluate.
    store : Store
        Scans prepared for it.
    split : str or None
        Which scans; None is all.
    flips : bool
        As `segmenting.segment`.
    console : Console
        Where to tell of scans that cannot be read.

    Returns
    -------
    Evaluated
        Scans are named by their number in the database.
    int
        Scans that could not be evaluated.

    Raises
    ------
    StoreError
        If the database has other classes, or no labelled scan in the split.
    """
    classes = model.metadata.labels
    if store.label_names != classes:
        raise StoreError(f"the database is labelled {store.label_names}; the model's classes are {classes}")
    for note in _unlike(model, store):
        console.print(f"[yellow]{shown(note)}")
    scans = [scan for scan in store.scans(split) if scan.labelled]
    done, total, failed = [], Counts.none(len(classes)), 0
    for scan in scans:
        try:
            scores, counts = _one(model, store, scan, flips)
        except (ScanError, DeviceError, MemoryError) as error:
            failed += 1
            why = "it needs more memory than there is" if isinstance(error, MemoryError) else error.public
            console.print(f"[red]scan {scan.key}: not evaluated: {shown(why)}")
            continue
        done.append((str(scan.key), scores))
        total += counts
    if not done:
        raise StoreError(f"the database has no labelled scan in split {split or 'all'!r} that can be read")
    return Evaluated(classes, tuple(range(len(classes))), tuple(done), total), failed


def _unlike(model: Model, store: Store) -> list[str]:
    """Say where the database was prepared in another way than the model's scans."""
    how = model.preprocessing
    spacings = {scan.spacing for scan in store.scans()}
    notes = []
    if store.normalisation != how.normalisation:
        notes.append(f"the scans are normalised by {store.normalisation}; the model learnt from {how.normalisation}")
    if (like := preprocessing_of(store, Settings()).like) != how.like:
        notes.append(
            f"the scans were conformed like {like}; the model learnt from {how.like}, whose axes run otherwise"
        )
    heads = {scan.stripped for scan in store.scans()} - {None}
    if how.stripped is not None and heads - {how.stripped}:
        kinds = {True: "skull-stripped", False: "not skull-stripped"}
        notes.append(f"some scans are {kinds[not how.stripped]}; the model learnt from {kinds[how.stripped]} ones")
    if how.spacing and not all(np.allclose(spacing, how.spacing, atol=1e-3) for spacing in spacings):
        notes.append(f"the scans have spacings of {sorted(spacings)} mm; the model learnt from {how.spacing}")
    return notes


def _one(model: Model, store: Store, scan: Scan, flips: bool) -> tuple[tuple[ClassScore, ...], Counts]:
    truth = store.read_label(scan, (0, 0, 0), scan.shape)
    image = store.read_image(scan, (0, 0, 0), scan.shape)
    predicted = segmenting.probabilities(model, image, flips=flips).argmax(0).numpy()
    return _scores(predicted, truth, scan.spacing, len(model.metadata.labels))


def _scores(
    predicted: NDArray[Any], truth: NDArray[Any], spacing: tuple[float, float, float], classes: int
) -> tuple[tuple[ClassScore, ...], Counts]:
    counts = Counts.of(predicted, truth, classes)
    return compare(predicted, truth, spacing, counts), counts


def evaluate_files(prediction: Path, truth: Path, label_set: str | None = None) -> Evaluated:
    """Compare two label maps on one grid; their axes may run in different orders and directions.

    Parameters
    ----------
    prediction, truth : Path
        Label maps. If a TSV of the prediction's name lies beside it, it names the classes.
    label_set : str, optional
        See `labels.named`: turns the values of the truth into classes.

    Raises
    ------
    ImportScanError
        If a map cannot be read, is not of whole numbers, lies on another grid, or both have too many values.
    """
    chosen = labels.named(label_set) if label_set else None
    with wall(prediction):
        predicted, mapped, affine = _turned_alike(prediction, truth)
        if chosen:
            mapped = chosen.apply(mapped).astype(np.int32)
    names = dict(enumerate(chosen.names)) if chosen else _names_beside(prediction)
    values = _values(predicted, mapped, names)
    # FreeSurfer's values go to 14175; what is counted and measured are the classes that there are.
    places = np.zeros(_HIGHEST + 1, np.uint16)
    places[values] = np.arange(len(values))
    scores, counts = _scores(places[predicted], places[mapped], spacing_of(affine), len(values))
    classes = tuple(names.get(value, f"class {value}" if value else "background") for value in values)
    return Evaluated(classes, tuple(values), ((prediction.name, scores),), counts)


def _turned_alike(prediction: Path, truth: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], Affine]:
    guess, true = images.load(prediction), images.load(truth)
    # Without a target, `conform` only checks that both lie on one grid and turns both the same way.
    both = conform(guess, true, Target(None, None))
    assert both.label is not None
    return _whole(both.image), _whole(both.label), both.affine


def _values(predicted: NDArray[np.int32], truth: NDArray[np.int32], names: Mapping[int, str]) -> list[int]:
    """Return the label values to compare: those that occur, those with a name, and the background."""
    found = {int(value) for voxels in (predicted, truth) for value in np.flatnonzero(np.bincount(voxels.ravel()))}
    if len(found) > _MOST:
        raise ImportScanError(f"the label maps have {len(found)} values; wanted at most {_MOST}; is one an image?")
    return sorted({0, *found, *(names if len(names) <= _MOST else ())})


def _whole(voxels: NDArray[Any]) -> NDArray[np.int32]:
    try:
        return labels.whole(voxels).astype(np.int32)
    except ImportScanError as error:
        text = f"a label map has values that are not whole numbers from 0 to {_HIGHEST}; is it an image?"
        raise ImportScanError(text, error.public) from error


def _names_beside(prediction: Path) -> dict[int, str]:
    stem = prediction.name.removesuffix(".gz").removesuffix(".nii")
    try:
        with (prediction.parent / f"{stem}.tsv").open(newline="", encoding="utf-8") as file:
            found = {int(row["index"]): str(row["name"]) for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {value: name for value, name in found.items() if 0 <= value <= _HIGHEST}


def _rows(found: Evaluated) -> Iterable[tuple[Any, ...]]:
    for scan, scores in found.scans:
        for value, name, one in zip(found.values, found.classes, scores, strict=True):
            volumes = (one.truth_ml, one.predicted_ml, one.difference_ml, one.difference_percent)
            yield (scan, value, name, one.dice, one.hausdorff95, *volumes)


def _show(console: Console, found: Evaluated) -> None:
    table = Table(Column("class", no_wrap=True), "pooled Dice", "Dice", "HD95, mm", "volume, %", "scans", title=_TITLE)
    pooled = dice(found.counts)
    for index, name in enumerate(found.classes):
        some = [scores[index] for _, scores in found.scans]
        overlap, far, volume = (
            _spread([getattr(one, what) for one in some], digits)
            for what, digits in (("dice", 3), ("hausdorff95", 2), ("difference_percent", 1))
        )
        table.add_row(shown(name), _number(pooled[index], 3), overlap, far, volume, str(len(some)))
    for title, first in (("foreground mean", 1), ("with background", 0)):
        means = [mean([one.dice for one in scores[first:]]) for _, scores in found.scans]
        table.add_row(title, _number(mean(pooled[first:]), 3), _spread(means, 3), "", "", str(len(means)))
    console.print(table)


def _spread(values: Sequence[float | None], digits: int) -> str:
    """Return mean and standard deviation over the scans that have a value."""
    there = np.array([value for value in values if value is not None])
    if there.size < 2:
        return _number(mean(list(there)), digits)
    return f"{there.mean():.{digits}f} ± {there.std(ddof=1):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
