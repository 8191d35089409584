"""What a database says of how it was made: versions, recipe, split; no path, host or time."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from computation import __version__
from computation.scans.making.labels import LabelSet
from computation.scans.making.recipe import Recipe
from computation.scans.store import writer

__all__ = ["header", "versions"]


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of everything that had a hand in an import."""
    packages = {name: version(name) for name in ("nibabel", "numpy", "scipy", "zstandard")}
    own = {"coinstac-meshnet": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    return {**own, **packages}


def header(chosen: LabelSet, how: Recipe, division: Mapping[str, Any]) -> writer.Header:
    """Return a database's facts.

    Parameters
    ----------
    chosen : LabelSet
        Its classes.
    how : Recipe
        What was done to each scan.
    division : mapping
        How people were divided into the parts of the split.
    """
    return writer.Header(
        label_set=chosen.name,
        label_names=chosen.names,
        label_colours=chosen.colours,
        normalisation=how.normalisation,
        split=division,
        provenance={"versions": versions(), "parameters": how.parameters(chosen)},
    )
