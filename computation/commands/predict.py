"""`coinstac-meshnet predict`: label raw scans with an exported model."""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from rich.console import Console

from computation import __version__, terminal
from computation.commands import figure, naming, outputs
from computation.commands import model as models
from computation.commands.model import Model
from computation.commands.segmenting import Segmented, segment
from computation.errors import MeshNetError
from computation.printable import plain
from computation.scans.making import images
from computation.scans.store.blocks import Triple
from computation.terminal import shown

__all__ = ["Wanted", "predict", "run"]

# nibabel's orientation functions are not annotated.
_orientations: Any = orientations

_COLUMNS = ("scan", "label", "name", "voxels", "ml")
_TABLE = "volumes.csv"


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes
    ----------
    output : Path
        Folder for labels, sidecars, figures and `volumes.csv`.
    tile, flips
        As `segmenting.segment`.
    figure : bool
        Whether to draw a PNG of each scan, where matplotlib is installed.
    """

    output: Path
    tile: Triple | None = None
    flips: bool = False
    figure: bool = True


def run(options: argparse.Namespace) -> int:
    """Carry out `predict`.

    Returns
    -------
    int
        Exit status: 1 if a scan could not be labelled.

    Raises
    ------
    MeshNetError
        If the model cannot be used at all.
    """
    model = models.read(options.model, options.device)
    tile = None if options.tile is None else (options.tile,) * 3
    wanted = Wanted(options.output, tile, options.flips, not options.no_figure)
    return predict(model, options.scans, wanted, terminal.console())


def predict(model: Model, scans: Sequence[Path], wanted: Wanted, console: Console) -> int:
    """Label scans one after the other; a bad one is told and does not stop the others.

    Parameters
    ----------
    model : Model
        What to use.
    scans : sequence of Path
        Raw images.
    wanted : Wanted
        Where to write what.
    console : Console
        Where to tell what happens.

    Returns
    -------
    int
        0 if every scan was labelled, else 1.

    Raises
    ------
    MeshNetError
        If the output folder takes no file, or a `volumes.csv` in it is none of ours.
    """
    outputs.check_folder(wanted.output)
    outputs.read_rows(wanted.output / _TABLE, _COLUMNS)
    failed = 0
    for path, name in zip(scans, naming.names_of(scans), strict=True):
        began = time.monotonic()
        try:
            name = _one(model, path, name, wanted, console)
        except (MeshNetError, MemoryError) as error:
            failed += 1
            console.print(f"[red]{shown(path)}: not labelled: {shown(_reason(error, path))}")
            continue
        console.print(f"[green]{shown(name)}[/] labelled in {time.monotonic() - began:.1f} s")
    done = len(scans) - failed
    where = f"; volumes: {shown(wanted.output / _TABLE)}" if done else ""
    console.print(f"{done} of {len(scans)} scans labelled{where}")
    return 1 if failed else 0


def _reason(error: MeshNetError | MemoryError, path: Path) -> str:
    """Return both halves of an error: whoever labels a scan is its owner, and the path has been told."""
    if isinstance(error, MemoryError):
        return "the scan needs more memory than there is; crop or resample it first"
    detail = "" if error.private == str(path) else error.private.removeprefix(f"{path}: ")
    return f"{error.public} ({detail})" if detail else error.public


def _one(model: Model, path: Path, name: str, wanted: Wanted, console: Console) -> str:
    """Label one scan, write its results, and return what they are called."""
    checksum = images.checksum(path)
    found = segment(model, path, tile=wanted.tile, flips=wanted.flips)
    labels, table = model.metadata.labels, wanted.output / _TABLE
    blob = gzip.compress(found.native.to_bytes(), mtime=0)
    with outputs.alone(table):
        asked, name = name, naming.name_in(wanted.output, name, path, checksum)
        with _whole(sidecar := naming.result(wanted.output, name, ".json")):
            # First: it makes the name this scan's, whatever ends the process now.
            outputs.write_json(sidecar, {**_sidecar(model, found, wanted), naming.SOURCE: checksum})
            outputs.write(naming.result(wanted.output, name, ".nii.gz"), blob)
            outputs.write_table(
                naming.result(wanted.output, name, ".tsv"), ("index", "name"), list(enumerate(labels)), "\t"
            )
            outputs.merge_rows(table, _COLUMNS, _rows(name, labels, found))
    if name != asked:
        console.print(f"[yellow]{shown(asked)} is another scan's result there; this one is {shown(name)}")
    for note in found.notes:
        console.print(f"[yellow]{shown(name)}: {shown(note)}")
    if wanted.figure:
        _draw(naming.result(wanted.output, name, ".png"), labels, found, name, console)
    return name


@contextmanager
def _whole(sidecar: Path) -> Iterator[None]:
    """Take a new sidecar away again if what it describes could not be written."""
    new = not sidecar.exists()
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if new:
                sidecar.unlink(missing_ok=True)
        raise


def _rows(name: str, labels: Sequence[str], found: Segmented) -> list[tuple[Any, ...]]:
    counted = enumerate(zip(labels, found.counts, strict=True))
    return [(name, index, label, count, count * found.voxel_ml) for index, (label, count) in counted]


def _sidecar(model: Model, found: Segmented, wanted: Wanted) -> dict[str, Any]:
    """Say how the labels came to be, in the words of BIDS where it has them."""
    tile = wanted.tile or model.preprocessing.tile
    return {
        "Description": "Tissue labels by MeshNet; research use only, not checked by a person",
        "GeneratedBy": [{"Name": "coinstac-meshnet", "Version": __version__}],
        "Manual": False,
        "Labels": {str(index): label for index, label in enumerate(model.metadata.labels)},
        "Architecture": model.network.architecture.name,
        "Preprocessing": model.preprocessing.as_json(),
        "Tile": list(tile) if tile else None,
        "Flips": wanted.flips,
        "Run": model.metadata.run,
        "Notes": list(found.notes),
    }


def _draw(path: Path, labels: Sequence[str], found: Segmented, name: str, console: Console) -> None:
    # Upright for the reader, whichever way the model's grid runs.
    upright = _orientations.io_orientation(np.array(found.prepared.scan.affine))
    voxels, classes = (_orientations.apply_orientation(one, upright) for one in (found.prepared.voxels, found.labels))
    try:
        outputs.write(path, figure.mosaic(voxels, classes, labels, plain(name)))
    except MeshNetError as error:
        console.print(f"[yellow]{shown(name)}: no figure: {shown(error.public)}")
