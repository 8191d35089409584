"""Named architectures: what a MeshNet is made of, read from the JSON files beside this module.

A file says numbers and names, never code. Its keys are those of `Architecture` without the classes, which belong to the
labels and not to the network's shape::

    {"format": "meshnet-architecture/1", "name": ..., "source": ..., "width": 5,
     "dilations": [1, 2, 4, ...], "norm": "batch", "activation": "elu", "dropout": 0.0}

`dilations` has one entry for each 3x3x3 layer; a 1x1x1 layer to the classes always follows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from computation.checks import is_number, is_text
from computation.errors import ModelError
from computation.settings import Settings

__all__ = ["ACTIVATIONS", "NORMS", "Architecture", "from_settings", "named", "names", "parse"]

NORMS = ("batch", "group", "none")
ACTIVATIONS = ("relu", "elu", "gelu")

_FORMAT = "meshnet-architecture/1"
_KEYS = {"format", "name", "source", "width", "dilations", "norm", "activation", "dropout", "classes"}


@dataclass(frozen=True)
class Architecture:
    """The shape of one MeshNet.

    Attributes
    ----------
    name : str
        Such as `meshnet-10x5`: layers, the 1x1x1 one among them, x channels. Those of 2025 are called 11 and have ten.
    width : int
        Channels of every hidden layer.
    dilations : tuple of int
        Dilation of each 3x3x3 layer, first to last.
    classes : int
        Channels of the last, 1x1x1 layer.
    norm : str
        `batch` (convolution bias, batch normalisation with affine), `group` (no bias, one group for each channel,
        affine) or `none` (bias only).
    activation : str
        `relu`, `elu` or `gelu`.
    dropout : float
        Share of channels that training drops after each activation.
    source : str
        Where it was published.
    """

    name: str
    width: int
    dilations: tuple[int, ...]
    classes: int
    norm: str
    activation: str
    dropout: float
    source: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values that `parse` reads back."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "source": self.source,
            "width": self.width,
            "dilations": list(self.dilations),
            "classes": self.classes,
            "norm": self.norm,
            "activation": self.activation,
            "dropout": self.dropout,
        }


def names() -> tuple[str, ...]:
    """Return the names of the architectures that ship with the computation: by depth, then width."""
    return tuple(sorted(_shipped(), key=_depth_and_width))


def _depth_and_width(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.removeprefix("meshnet-").split("x"))


def named(
    name: str,
    *,
    classes: int,
    norm: str | None = None,
    activation: str | None = None,
    dropout: float | None = None,
) -> Architecture:
    """Return a shipped architecture, with the published choices or one's own.

    Parameters
    ----------
    name : str
        One of `names()`.
    classes : int
        Number of labels, background included.
    norm, activation : str, optional
        Replace the published normalisation or activation.
    dropout : float, optional
        Replaces the published dropout.

    Raises
    ------
    ModelError
        If there is no such architecture, or a choice is not among those that exist.
    """
    if name not in _shipped():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; wanted one of {', '.join(names())}"
        raise ModelError(f"there is no architecture {name[:40]!r}{hint}")
    chosen = {"classes": classes, "norm": norm, "activation": activation, "dropout": dropout}
    wanted = {key: value for key, value in chosen.items() if value is not None}
    return parse({**_shipped()[name], **wanted})


def from_settings(settings: Settings) -> Architecture:
    """Return the architecture that the owner's settings describe.

    Raises
    ------
    ModelError
        As `named`.
    """
    return named(
        settings.model,
        classes=len(settings.classes),
        norm=None if settings.norm == "published" else settings.norm,
        activation=None if settings.activation == "published" else settings.activation,
        dropout=None if settings.dropout < 0 else settings.dropout,
    )


def parse(raw: Any) -> Architecture:
    """Read an architecture from foreign JSON.

    Parameters
    ----------
    raw : object
        What `json.loads` returned.

    Raises
    ------
    ModelError
        If it is not exactly what the schema at the top of this module says, with `classes`.
    """
    table = raw if isinstance(raw, Mapping) else {}
    if set(table) != _KEYS or table["format"] != _FORMAT:
        raise ModelError(f"an architecture is not an object of format {_FORMAT} with exactly its keys")
    _require("name", is_text(table["name"], 64) and table["name"], "a text of at most 64 characters")
    _require("source", is_text(table["source"], 400), "a text of at most 400 characters")
    _require("width", _is_whole(table["width"], 256), "a whole number from 1 to 256")
    _require("classes", _is_whole(table["classes"], 256) and table["classes"] > 1, "a whole number from 2 to 256")
    _require("dilations", _are_dilations(table["dilations"]), "a list of 1 to 64 whole numbers from 1 to 64")
    _require("norm", table["norm"] in NORMS, f"one of {', '.join(NORMS)}")
    _require("activation", table["activation"] in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}")
    _require("dropout", is_number(table["dropout"]) and 0 <= table["dropout"] < 1, "a number from 0 to below 1")
    fields = {key: value for key, value in table.items() if key != "format"}
    return Architecture(**{**fields, "dilations": tuple(table["dilations"]), "dropout": float(table["dropout"])})


def _require(key: str, fits: object, wanted: str) -> None:
    if not fits:
        raise ModelError(f"{key!r} of an architecture is malformed; wanted {wanted}")


def _is_whole(value: Any, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= high


def _are_dilations(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 64 and all(_is_whole(item, 64) for item in value)


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    """Read the JSON files of this package; two classes stand in until the caller names its own."""
    folder = resources.files(__package__) / "architectures"
    tables = [json.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".json")]
    return {parse({**table, "classes": 2}).name: {**table, "classes": 2} for table in tables}
