"""`coinstac-meshnet predict`: label raw scans with an exported model."""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from rich.console import Console

from computation import __version__, terminal
from computation.commands import figure, outputs
from computation.commands import model as models
from computation.commands.model import Model
from computation.commands.segmenting import Segmented, segment
from computation.errors import MeshNetError
from computation.scans.making import images
from computation.scans.store.blocks import Triple
from computation.terminal import shown

__all__ = ["Wanted", "names_of", "predict", "run"]

# nibabel's orientation functions are not annotated.
_orientations: Any = orientations

_COLUMNS = ("scan", "label", "name", "voxels", "ml")
_ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh", ".img.gz", ".img", ".hdr")


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
        If `volumes.csv` cannot be written.
    """
    rows: list[tuple[Any, ...]] = []
    failed = 0
    for path, name in zip(scans, names_of(scans), strict=True):
        began = time.monotonic()
        try:
            rows += _one(model, path, name, wanted, console)
        except MeshNetError as error:
            failed += 1
            console.print(f"[red]{shown(path)}: not labelled: {shown(error.public)}")
            continue
        console.print(f"[green]{shown(name)}[/] labelled in {time.monotonic() - began:.1f} s")
    outputs.write_table(wanted.output / "volumes.csv", _COLUMNS, rows)
    console.print(f"{len(scans) - failed} of {len(scans)} scans labelled; volumes: {shown(wanted.output)}/volumes.csv")
    return 1 if failed else 0


def _one(model: Model, path: Path, name: str, wanted: Wanted, console: Console) -> list[tuple[Any, ...]]:
    found = segment(model, images.load(path), tile=wanted.tile, flips=wanted.flips)
    for note in found.notes:
        console.print(f"[yellow]{shown(name)}: {shown(note)}")
    labels = model.metadata.labels
    folder, rows = wanted.output, _rows(name, labels, found)
    outputs.write(folder / f"{name}_dseg.nii.gz", gzip.compress(found.native.to_bytes(), mtime=0))
    outputs.write_table(folder / f"{name}_dseg.tsv", ("index", "name"), list(enumerate(labels)), "\t")
    outputs.write_json(folder / f"{name}_dseg.json", _sidecar(model, found, wanted))
    if wanted.figure:
        _draw(folder / f"{name}_dseg.png", labels, found, name, console)
    return rows


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
        outputs.write(path, figure.mosaic(voxels, classes, labels, name))
    except MeshNetError as error:
        console.print(f"[yellow]{shown(name)}: no figure: {shown(error.public)}")


def names_of(paths: Sequence[Path]) -> list[str]:
    """Name the outputs: each file's stem, with its folders where stems alone are not unique, then with a number.

    Examples
    --------
    >>> names_of([Path("sub-1/T1.nii.gz"), Path("sub-2/T1.nii.gz")])
    ['sub-1_T1', 'sub-2_T1']
    """
    names = [_stem(path) for path in paths]
    for depth in (1, 2, 3):
        counts = Counter(names)
        names = [
            # Links are not followed: DataLad's scans are links into folders that are named by checksums.
            _longer(Path(os.path.abspath(path)), name, depth) if counts[name] > 1 else name  # noqa: PTH100
            for path, name in zip(paths, names, strict=True)
        ]
    counts = Counter(names)
    return [f"{name}_{place + 1}" if counts[name] > 1 else name for place, name in enumerate(names)]


def _longer(path: Path, name: str, depth: int) -> str:
    folder = path.parents[depth - 1].name if depth <= len(path.parents) else ""
    return f"{folder}_{name}" if folder else name


def _stem(path: Path) -> str:
    ending = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)] or path.name
