"""From one row of files to one finished scan: what an import does to each, in one process or another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage

from computation.errors import ImportScanError
from computation.scans.making import images, labels, levels, volumes
from computation.scans.making.conform import Target, check_aligned, conform
from computation.scans.making.labels import LabelSet
from computation.scans.making.oddities import noticed, roomy
from computation.scans.making.sources import Row
from computation.scans.making.stripped import is_stripped
from computation.scans.making.wall import wall
from computation.scans.store import normalise, writer
from computation.scans.store.records import pack, spacing_of

__all__ = ["Recipe", "checksums", "make"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a scan's voxels, besides its files.

    Attributes
    ----------
    target : Target
        The grid.
    label_set : str
        See `labels.named`.
    normalisation : str
        One of `normalise.SCHEMES`.
    storage : str
        One of `images.STORAGES`.
    """

    target: Target = field(default_factory=Target)
    label_set: str = "gwm-white1-grey2"
    normalisation: str = normalise.SCHEMES[0]
    storage: str = images.STORAGES[0]

    def __post_init__(self) -> None:
        if self.normalisation not in normalise.SCHEMES:
            known = ", ".join(normalise.SCHEMES)
            raise ImportScanError(f"normalisation {self.normalisation!r} is unknown; choose from {known}")
        if self.storage not in images.STORAGES:
            known = ", ".join(images.STORAGES)
            raise ImportScanError(f"storage {self.storage!r} is unknown; choose one of {known}")

    def parameters(self, chosen: LabelSet) -> dict[str, Any]:
        """Return what the database notes of this recipe: equal recipes, equal parameters."""
        values = hashlib.sha256(pack(sorted(chosen.values.items())).encode()).hexdigest()
        label_set = f"{chosen.name}:{chosen.source}"
        return {"target": asdict(self.target), "label_set": label_set, "values": values, "storage": self.storage}


def checksums(row: Row) -> dict[str, str]:
    """Return the SHA-256 of each of a row's files.

    Raises
    ------
    ImportScanError
        If one is missing or cannot be read.
    """
    files = {"image": row.image} if row.label is None else {"image": row.image, "label": row.label}
    return {kind: images.checksum(path) for kind, path in files.items()}


def make(row: Row, split: str, recipe: Recipe, source: Mapping[str, str]) -> writer.Entry:
    """Read, conform, normalise and map one scan.

    Parameters
    ----------
    row : Row
        Its files.
    split : str
        Its person's part of the split.
    recipe : Recipe
        What to do.
    source : mapping
        The files' checksums.

    Returns
    -------
    Entry

    Raises
    ------
    ImportScanError
        If the scan cannot be used; the message says why.
    """
    with wall(row.image):
        return _make(row, split, recipe, source)


def _make(row: Row, split: str, recipe: Recipe, source: Mapping[str, str]) -> writer.Entry:
    chosen = labels.named(recipe.label_set)
    image = images.load(row.image)
    normalise.check(np.asanyarray(image.dataobj))
    label = None if row.label is None else _label(row.label, image, chosen)
    scan = conform(image, label, recipe.target)
    low, high = normalise.constants(scan.image, recipe.normalisation)
    stored, slope = images.storable(scan.image, recipe.storage)
    few = levels.check(image, scan, stored, slope, low, high)
    classes = None if scan.label is None else chosen.padded().apply(scan.label)
    return writer.Entry(
        subject=row.subject,
        session=row.session,
        split=split,
        affine=scan.affine,
        low=low,
        high=high,
        image=stored,
        label=classes,
        slope=slope,
        native=images.native(image),
        source=source,
        cut=scan.cut,
        warnings=(*noticed(image, scan), *few, *roomy(scan)),
        stripped=is_stripped(stored, spacing_of(scan.affine), classes),
    )


def _label(path: Path, image: SpatialImage, chosen: LabelSet) -> SpatialImage:
    """Read a label map, unless its header says already that it lies elsewhere; every value is one of the set's.

    Whether a value is foreign must not depend on the new grid, which may lie beside it or step over it.
    """
    with wall(path):
        check_aligned(image, images.opened(path))
        one = volumes.single(images.load(path))
        values = labels.whole(volumes.numbers(one))
        chosen.apply(values)
        return SpatialImage(values, one.affine)
