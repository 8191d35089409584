"""Reads the two files of an exported model without PyTorch; `export` writes them, and makes a network of them.

Nothing is unpickled: the tensors' names, shapes and dtype must be exactly those of the architecture in the JSON, and
their digest the one in the JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors

from computation.checks import is_digest, is_text, parse_json
from computation.errors import ModelError
from computation.model import architecture, shapes
from computation.model.architecture import Architecture
from computation.wire import payload
from computation.wire.payload import Manifest, Vector

__all__ = ["FORMAT", "MOST_TEXT", "Card", "identify", "read"]

FORMAT = "meshnet-model/1"
#: Longest JSON, and longest safetensors header, that is read at all.
MOST_TEXT = 1 << 20
_KEYS = {"format", "architecture", "labels", "preprocessing", "seed", "versions", "run", "dtype", "tensors", "digest"}
_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Card:
    """A model's JSON, checked.

    Attributes
    ----------
    table : mapping
        All of it.
    architecture : Architecture
        Of the network.
    manifest : Manifest
        Of all its values.
    """

    table: Mapping[str, Any]
    architecture: Architecture
    manifest: Manifest

    @classmethod
    def parse(cls, blob: bytes) -> Card:
        """Read the JSON's bytes.

        Raises
        ------
        ModelError
            If it is not what `export.save_model` writes.
        """
        table = _table(blob)
        shape = architecture.parse(table["architecture"])
        if len(table["labels"]) != shape.classes:
            raise ModelError(f"the model file names {len(table['labels'])} labels for {shape.classes} classes")
        return cls(table, shape, shapes.of(shape))

    @property
    def tensors(self) -> str:
        """Plain name of the file with the tensors, which lies beside the JSON."""
        return str(self.table["tensors"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(self.table["labels"])

    @property
    def digest(self) -> str:
        """SHA-256 of all values, as the JSON has it."""
        return str(self.table["digest"])

    @property
    def most(self) -> int:
        """Bytes that the file with the tensors can have."""
        return MOST_TEXT + self.manifest.size * 8

    def values(self, blob: bytes) -> Vector:
        """Return all values of the model from its tensors' file.

        Raises
        ------
        ModelError
            If the tensors are not those that the JSON describes, or not finite.
        """
        values = _join(self.manifest, _tensors(blob), np.dtype(self.table["dtype"]))
        if payload.digest(self.manifest, values) != self.digest:
            raise ModelError("the tensors do not have the digest that the model's JSON names; copy both files again")
        shapes.check(self.manifest, values)
        return values


def read(path: Path, most: int) -> bytes:
    """Return a file of a model.

    Raises
    ------
    ModelError
        If it cannot be read, or has more bytes than `most`.
    """
    try:
        with path.open("rb") as file:
            blob = file.read(most + 1)
    except OSError as error:
        raise ModelError("the model file cannot be read; wanted model.json and its safetensors", str(error)) from None
    if len(blob) > most:
        raise ModelError(f"a model file is larger than the {most} bytes that it can have", str(path))
    return blob


def identify(path: Path) -> tuple[str, Path]:
    """Read a model as `export.load_model` does, and return the digest of all its values and where its tensors lie."""
    card = Card.parse(read(path, MOST_TEXT))
    tensors = path.with_name(card.tensors)
    card.values(read(tensors, card.most))
    return card.digest, tensors


def _table(blob: bytes) -> dict[str, Any]:
    """Read the model's JSON; every key is checked, `architecture` by its own parser."""
    try:
        table = parse_json(blob)
    except ValueError as error:
        raise ModelError(f"the model's JSON cannot be parsed: {error}; wanted the one that was exported") from None
    if not isinstance(table, dict) or set(table) != _KEYS or table["format"] != FORMAT:
        raise ModelError(f"the model's JSON is not an object of format {FORMAT} with exactly its keys")
    fits = {
        "labels": isinstance(table["labels"], list) and all(is_text(label, 200) for label in table["labels"]),
        "preprocessing": isinstance(table["preprocessing"], dict),
        "seed": isinstance(table["seed"], int) and not isinstance(table["seed"], bool),
        "versions": isinstance(table["versions"], dict)
        and all(is_text(item, 200) for item in table["versions"].values()),
        "run": isinstance(table["run"], dict),
        "dtype": isinstance(table["dtype"], str) and table["dtype"] in _DTYPES,
        "tensors": is_text(table["tensors"], 200) and Path(table["tensors"]).name == table["tensors"],
        "digest": is_digest(table["digest"]),
    }
    for key, fit in fits.items():
        if not fit:
            raise ModelError(f"{key!r} of the model's JSON is malformed; wanted the one that was exported")
    return table


def _tensors(blob: bytes) -> Mapping[str, np.ndarray]:
    try:
        return tensors.load(blob)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError("the model's tensors cannot be read; copy the file again", str(error)) from None


def _join(manifest: Manifest, arrays: Mapping[str, np.ndarray], dtype: np.dtype[Any]) -> Vector:
    if set(arrays) != {name for name, _ in manifest.entries}:
        raise ModelError("the model's tensors are not those of its architecture")
    for name, shape in manifest.entries:
        seen = arrays[name]
        if seen.shape != shape or seen.dtype != dtype:
            raise ModelError(f"tensor {name!r} is {seen.dtype} {seen.shape}; wanted {dtype} {shape}")
    values: Vector = np.concatenate([arrays[name].ravel() for name, _ in manifest.entries])
    if not np.isfinite(values).all():
        raise ModelError("the model holds values that are NaN or infinite")
    return values
