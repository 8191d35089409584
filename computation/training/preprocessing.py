"""What a model expects of a scan: written beside its weights when a run ends, done to raw scans when it is used.

A scan goes through the very functions of the import, in its order: conform, find the normalisation constants, round to
the stored type, normalise. The network therefore meets the numbers that it would have met in the site's database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from computation.checks import is_number
from computation.errors import ModelError
from computation.scans.making import images, levels
from computation.scans.making.conform import LIKE, Target, conform
from computation.scans.making.oddities import noticed
from computation.scans.making.stripped import is_stripped
from computation.scans.store import normalise
from computation.scans.store.blocks import Triple
from computation.scans.store.opening import SqliteStore, Store
from computation.scans.store.records import Scan, spacing_of
from computation.settings import Settings
from computation.training import head
from computation.training.inference import learnt_tile

__all__ = ["Prepared", "Preprocessing", "parse", "prepare", "preprocessing_of"]

_PRECISIONS = ("float32", "bfloat16", "float64")

#: For whoever runs the model with other software; ours always does it.
_USE = (
    "label only the box of the head and head_margin voxels around it, in tiles of `tile` where that is set, which "
    "reach beyond it by an eighth of their side, and by more where it is smaller than a tile; everything outside is "
    "background (class 0), because the network has not learnt what air is"
)


@dataclass(frozen=True)
class Preprocessing:
    """How a scan becomes the input of a model.

    Attributes
    ----------
    normalisation : str
        One of `normalise.SCHEMES`.
    spacing : tuple of float or None
        Millimetres between voxels; None keeps each image's own.
    grid : tuple of int or None
        Voxels along each axis; None keeps each image's field of view.
    like : str
        One of `conform.LIKE`.
    storage : str
        One of `images.STORAGES`: what the voxels were rounded to.
    tile : tuple of int or None
        Sides of the tiles on which to use the model; None is the whole volume if it fits. A network with group
        normalisation that learnt from sub-volumes wants tiles of their size.
    precision : str
        Arithmetic of the network.
    stripped : bool or None
        Whether everything outside the brain was 0 in the scans that the model learnt from; None where nobody knows.
    """

    normalisation: str = normalise.SCHEMES[0]
    spacing: tuple[float, float, float] | None = None
    grid: Triple | None = None
    like: str = LIKE[0]
    storage: str = "exact"
    tile: Triple | None = None
    precision: str = _PRECISIONS[0]
    stripped: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values that `parse` reads back, and what other software must do around them."""
        fields = ("normalisation", "spacing", "grid", "like", "storage", "tile", "precision", "stripped")
        values = {name: getattr(self, name) for name in fields}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "head_margin": head.MARGIN, "use": _USE}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A raw scan as a model wants it.

    Attributes
    ----------
    voxels : numpy.ndarray of float32
        Normalised, on the conformed grid.
    scan : Scan
        Where that grid lies, and the native header.
    notes : tuple of str
        What is odd about the scan; names neither files nor people.
    """

    voxels: NDArray[np.float32]
    scan: Scan
    notes: tuple[str, ...]


def preprocessing_of(store: Store, settings: Settings) -> Preprocessing:
    """Return what was done to a site's scans, and how its model is to be used.

    Parameters
    ----------
    store : Store
        The site's scans. A database that does not say how it was made is described by its scans: their spacing and
        grid where all agree.
    settings : Settings
        Of the run.
    """
    made = store.meta.get("provenance", {}) if isinstance(store, SqliteStore) else {}
    parameters = made.get("parameters", {}) if isinstance(made, Mapping) else {}
    common = {
        "spacing": _common(scan.spacing for scan in store.scans()),
        "grid": _common(scan.shape for scan in store.scans()),
    }
    known = {
        **(parameters.get("target") or common),
        "storage": parameters.get("storage", "exact"),
        "normalisation": store.normalisation,
        "tile": learnt_tile(settings),
        "precision": settings.precision,
        "stripped": _common(scan.stripped for scan in store.scans()),
    }
    return parse({name: value for name, value in known.items() if _fits(name, value)})


def _common(values: Iterable[Any]) -> Any:
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _fits(name: str, value: Any) -> bool:
    """Tell whether `parse` takes a value: an odd header must not spoil the end of a run."""
    try:
        parse({name: value})
    except ModelError:
        return False
    return True


def parse(raw: Mapping[str, Any]) -> Preprocessing:
    """Read what a model's JSON says; unknown keys are left alone, missing ones have their defaults.

    Models that were exported before `spacing` was written down have it as text, `spacing_mm`.

    Raises
    ------
    ModelError
        If a value is malformed.
    """
    blank = Preprocessing()
    spacing = raw.get("spacing", _spacing_of_text(raw.get("spacing_mm")))
    return Preprocessing(
        normalisation=_choice(raw, "normalisation", blank.normalisation, normalise.SCHEMES),
        spacing=_three("spacing", spacing, 0.1, 20),
        grid=_sides("grid", raw.get("grid")),
        like=_choice(raw, "like", blank.like, LIKE),
        storage=_choice(raw, "storage", blank.storage, images.STORAGES),
        tile=_sides("tile", raw.get("tile")),
        precision=_choice(raw, "precision", blank.precision, _PRECISIONS),
        stripped=_known(raw, "stripped"),
    )


def _spacing_of_text(value: Any) -> Any:
    try:
        return [float(part) for part in str(value).split(" x ")]
    except ValueError:
        return None


def _choice(raw: Mapping[str, Any], name: str, default: str, known: tuple[str, ...]) -> str:
    value = raw.get(name, default)
    if value not in known:
        raise ModelError(f"{name!r} of the model's preprocessing is unknown; wanted one of {', '.join(known)}")
    return str(value)


def _known(raw: Mapping[str, Any], name: str) -> bool | None:
    value = raw.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise ModelError(f"{name!r} of the model's preprocessing is malformed; wanted true, false or null")


def _three(name: str, value: Any, low: float, high: float) -> tuple[float, float, float] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and len(value) == 3 and all(is_number(v) and low <= v <= high for v in value):
        return (float(value[0]), float(value[1]), float(value[2]))
    raise ModelError(f"{name!r} of the model's preprocessing is malformed; wanted three numbers {low:g} to {high:g}")


def _sides(name: str, value: Any) -> Triple | None:
    sides = _three(name, value, 4, 1024)
    if sides is None:
        return None
    if any(side % 1 for side in sides):
        raise ModelError(f"{name!r} of the model's preprocessing is malformed; wanted whole numbers")
    return (int(sides[0]), int(sides[1]), int(sides[2]))


def prepare(image: SpatialImage, how: Preprocessing) -> Prepared:
    """Do to a raw scan what the import did to the scans that the model learnt from.

    Parameters
    ----------
    image : SpatialImage
        As `images.load` read it.
    how : Preprocessing
        Of the model.

    Returns
    -------
    Prepared

    Raises
    ------
    ImportScanError
        If the image is not one 3-D volume of grey values, is empty or constant, or NaN in the head.
    """
    normalise.check(np.asanyarray(image.dataobj))
    found = conform(image, None, Target(how.spacing, how.grid, how.like))
    low, high = normalise.constants(found.image, how.normalisation)
    stored, slope = images.storable(found.image, how.storage)
    few = levels.check(image, found, stored, slope, low, high)
    i, j, k = stored.shape
    scan = Scan(
        key=0,
        subject="",
        session="",
        split="test",
        shape=(i, j, k),
        spacing=spacing_of(found.affine),
        affine=found.affine,
        dtype=stored.dtype.name,
        low=low,
        high=high,
        labelled=False,
        native=images.native(image),
        cut=found.cut,
        stripped=is_stripped(stored, spacing_of(found.affine)),
    )
    notes = (*noticed(image, found, "outside the model's grid"), *few)
    voxels = normalise.apply(stored, slope, low, high, how.normalisation)
    return Prepared(voxels, scan, (*notes, *_unlike(how.stripped, scan.stripped)))


def _unlike(learnt: bool | None, there: bool | None) -> tuple[str, ...]:
    """Say that a scan has a skull where the model learnt from brains alone, or the other way round."""
    if learnt and there is False:
        return (
            "the model learnt from skull-stripped scans, and this one has signal outside the brain: skull, eyes and "
            "neck may be labelled as brain; strip it first (SynthStrip, HD-BET, BET or the like)",
        )
    if learnt is False and there:
        return (
            "the model learnt from scans that are not skull-stripped, and outside the brain this one is 0; give it the "
            "scan as it was before stripping",
        )
    return ()
