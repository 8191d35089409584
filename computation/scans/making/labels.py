"""Label sets: which classes a model learns, and which source values stand for them, as named JSON.

A set's name says its class order, because both orders of grey and white matter are in use and a swapped pair trains
without an error. One set can be filled from several sources: ``gwm-white1-grey2:oasis-tissue`` is the set
`gwm-white1-grey2` read from label maps in which 3 is white and 2 grey matter. Without a source the values are the
class numbers themselves. ``identity-7`` is seven classes without names, for label maps that are already class numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.checks import parse_json
from computation.errors import ImportScanError

__all__ = ["LabelSet", "load", "named", "names", "specs", "whole"]

#: Source of label maps whose values are already the class numbers.
_CLASSES = "classes"

#: How far from whole a label may be: float32 and the scaling of a header leave 1.000015 of a 1.
_NEAR = 1e-3

#: Source values above this are not label maps but images.
_HIGHEST = 65535


@dataclass(frozen=True)
class LabelSet:
    """Classes and the source values that stand for them.

    Attributes
    ----------
    name : str
        Name of the set.
    source : str
        Name of the source whose values are mapped.
    names : tuple of str
        Class names; index is class number, the first is the background.
    colours : tuple of str
        ``#rrggbb`` per class.
    values : mapping
        Source value to class number.
    """

    name: str
    source: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    values: Mapping[int, int]

    def apply(self, voxels: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn source values into class numbers.

        Parameters
        ----------
        voxels : ndarray
            A label map; floating point is accepted if every value is whole, to a thousandth.

        Returns
        -------
        ndarray of uint8
            Same shape.

        Raises
        ------
        ImportScanError
            If a value is fractional or outside the set.
        """
        values = whole(voxels)
        table = np.full(max(int(values.max()), *self.values) + 1, -1, np.int16)
        table[list(self.values)] = list(self.values.values())
        mapped: NDArray[np.int16] = table[values]
        if mapped.min() < 0:
            foreign = np.unique(values[mapped < 0])
            listed = ", ".join(str(value) for value in foreign[:8]) + (", ..." if foreign.size > 8 else "")
            raise ImportScanError(
                f"label values {listed} are outside the label set {self.name}:{self.source}, which knows "
                f"{_ranges(self.values)}; choose the label set that the labels were drawn with"
            )
        return mapped.astype(np.uint8)

    def padded(self) -> LabelSet:
        """Return the set for label maps that were brought onto another grid: 0 outside the old one is background."""
        return replace(self, values={0: 0, **self.values})


def names() -> tuple[str, ...]:
    """List the label sets that come with the software."""
    folder = resources.files(__package__).joinpath("labelsets")
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".json")))


def specs() -> tuple[str, ...]:
    """List what `named` takes of that: each set, and each with each of its sources."""
    found = ((name, _shipped(name).get("sources", {})) for name in names())
    return tuple(spec for name, sources in found for spec in (name, *(f"{name}:{source}" for source in sources)))


def _shipped(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath("labelsets", f"{name}.json").read_text("utf-8")
    record: dict[str, Any] = json.loads(text)
    return record


def named(spec: str) -> LabelSet:
    """Find a label set.

    Parameters
    ----------
    spec : str
        ``NAME`` or ``NAME:SOURCE`` of one that comes with the software, the same with a path to a JSON file, or
        ``identity-N`` for N classes.

    Returns
    -------
    LabelSet

    Raises
    ------
    ImportScanError
        If there is no such set or source, or the file is not a label set.
    """
    name, _, source = spec.partition(":")
    if name.endswith(".json"):
        return load(Path(name), source)
    if match := re.fullmatch(r"identity-(\d{1,3})", name):
        return _parse(_identity(int(match[1])), source or _CLASSES)
    if name not in names():
        known = ", ".join((*names(), "identity-N"))
        raise ImportScanError(f"label set {name!r} is unknown; choose one of {known}, or a path to a .json file")
    return _parse(_shipped(name), source or _CLASSES)


def load(path: Path, source: str = "") -> LabelSet:
    """Read a label set of one's own.

    Parameters
    ----------
    path : Path
        JSON like those in `labelsets/`: ``name``, ``classes`` (each with ``name`` and ``colour``) and ``sources``,
        each an object from source value, or range of values such as ``1001-1035``, to class number.
    source : str, optional
        Which of its sources; by default the class numbers themselves.

    Returns
    -------
    LabelSet

    Raises
    ------
    ImportScanError
        If the file is missing or is not a label set.
    """
    try:
        record = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImportScanError("the label set file cannot be read as JSON", f"{path}: {error}") from error
    return _parse(record, source or _CLASSES)


def _parse(record: Any, source: str) -> LabelSet:
    try:
        classes = [(str(entry["name"]), str(entry["colour"])) for entry in record["classes"]]
        sources = {_CLASSES: {str(index): index for index in range(len(classes))}, **record.get("sources", {})}
        tables = {key: _spread(table) for key, table in sources.items()}
        name = str(record["name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImportScanError("the label set needs a name, classes with names and colours, and sources") from error
    if source not in tables:
        raise ImportScanError(f"label set {name} has no source {source!r}; choose one of {', '.join(sorted(tables))}")
    _check(classes, tables[source])
    titles, colours = zip(*classes, strict=True)
    return LabelSet(name, source, titles, colours, tables[source])


def _spread(table: Mapping[str, Any]) -> dict[int, int]:
    """Return single values from ranges; a value that is named twice is an error, not the last one's."""
    found: dict[int, int] = {}
    for key, number in table.items():
        low, dash, high = key.partition("-")
        values = range(int(low), (int(high) if dash else int(low)) + 1)
        if not values or values.stop > _HIGHEST + 2 or not found.keys().isdisjoint(values):
            raise ValueError(f"the range {key!r} is empty, too high or overlaps another")
        if type(number) is not int:
            raise ValueError(f"class number {number!r} is not a whole number")
        found.update(dict.fromkeys(values, number))
    return found


def _identity(classes: int) -> dict[str, Any]:
    grey = [round(255 * index / max(1, classes - 1)) for index in range(classes)]
    entries = [
        {"name": f"class {index}", "colour": f"#{level:02x}{level:02x}{level:02x}"} for index, level in enumerate(grey)
    ]
    return {"name": f"identity-{classes}", "classes": entries}


def _check(classes: list[tuple[str, str]], values: Mapping[int, int]) -> None:
    titles = [title for title, _ in classes]
    if not 2 <= len(classes) <= 256 or len(set(titles)) != len(titles):
        raise ImportScanError("a label set has 2 to 256 classes with different names, the background first")
    if not all(re.fullmatch(r"#[0-9a-f]{6}", colour) for _, colour in classes):
        raise ImportScanError("a label set's colours are written #rrggbb, in lower case")
    inside = all(0 <= value <= _HIGHEST and 0 <= number < len(classes) for value, number in values.items())
    if not values or not inside:
        raise ImportScanError(f"a label set maps values 0 to {_HIGHEST} to class numbers 0 to {len(classes) - 1}")


def whole(voxels: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a label map as whole numbers from 0 to 65,535.

    Parameters
    ----------
    voxels : ndarray
        Whole to a thousandth.

    Returns
    -------
    ndarray of integers
        As they came, or int32 for floating point.

    Raises
    ------
    ImportScanError
        If a value is not finite, a fraction, or out of range.
    """
    if voxels.dtype.kind not in "iuf" or not np.isfinite(voxels).all():
        raise ImportScanError("the label map holds values that are not finite numbers; save it as whole numbers")
    if voxels.dtype.kind == "f":
        rounded = np.rint(voxels)
        if (far := np.abs(voxels - rounded) > _NEAR).any():
            some = float(voxels[far].flat[0])
            text = f"the label map holds fractions such as {some:.4g}; it was interpolated or is a probability map"
            raise ImportScanError(text)
        voxels = rounded
    low, high = voxels.min(), voxels.max()
    if low < 0 or high > _HIGHEST:
        raise ImportScanError(f"the label map holds values from {low} to {high}; wanted 0 to {_HIGHEST}")
    return voxels.astype(np.int32) if voxels.dtype.kind == "f" else voxels


def _ranges(values: Mapping[int, int]) -> str:
    """Write known values in few words: ``0 to 3, 7``."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)
