"""A trained model as two files: raw tensors (safetensors) and a JSON that says what they are.

Nothing is unpickled: the tensors' names, shapes and dtype must be exactly those of the architecture in the JSON, their
digest the one in the JSON, and both files are bounded before they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as tensors

from computation.checks import is_digest, is_text, parse_json
from computation.errors import ModelError
from computation.files import replacing
from computation.model import architecture, vector
from computation.model.network import MeshNet
from computation.wire import payload
from computation.wire.payload import Manifest, Vector

__all__ = ["Metadata", "identify", "load_model", "save_model"]

_FORMAT = "meshnet-model/1"
_KEYS = {"format", "architecture", "labels", "preprocessing", "seed", "versions", "run", "dtype", "tensors", "digest"}
_DTYPES = {"float32": torch.float32, "float64": torch.float64}
#: Longest JSON, and longest safetensors header, that is read at all.
_MOST_TEXT = 1 << 20


@dataclass(frozen=True)
class Metadata:
    """What a reader must know besides the weights.

    Attributes
    ----------
    labels : tuple of str
        Name of each class, in the order of the label values.
    preprocessing : dict
        What was done to the scans: normalisation, spacing, grid; plain JSON.
    seed : int
        Of the run.
    versions : dict of str
        Of the software.
    run : dict
        Anything else worth keeping, such as rounds and Dice; plain JSON.
    """

    labels: tuple[str, ...]
    preprocessing: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


def save_model(folder: Path, model: MeshNet, metadata: Metadata, *, name: str = "model") -> str:
    """Write `name.safetensors` and `name.json`, each whole or not at all.

    Parameters
    ----------
    folder : Path
        Made if missing.
    model : MeshNet
        With its batch-norm statistics, whatever the run's policy.
    metadata : Metadata
        What goes into the JSON beside the architecture.
    name : str
        Stem of both files.

    Returns
    -------
    str
        Digest of all values, as the JSON has it.

    Raises
    ------
    ModelError
        If the labels are not one for each class.
    """
    if len(metadata.labels) != model.architecture.classes:
        raise ModelError(
            f"{len(metadata.labels)} label names for a model of {model.architecture.classes} classes; wanted one each"
        )
    manifest = vector.manifest(model, "sync")
    values = vector.gather(model, manifest)
    digest = payload.digest(manifest, values)
    card = {
        "format": _FORMAT,
        "architecture": model.architecture.as_json(),
        **asdict(metadata),
        "dtype": values.dtype.name,
        "tensors": f"{name}.safetensors",
        "digest": digest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # The tensors first: a JSON that is there always has its tensors beside it.
    _write(folder / f"{name}.safetensors", tensors.save(_split(manifest, values)))
    _write(folder / f"{name}.json", json.dumps(card, indent=2, allow_nan=False).encode() + b"\n")
    return digest


def _split(manifest: Manifest, values: Vector) -> dict[str, np.ndarray]:
    return {name: values[manifest.slices[name]].reshape(shape) for name, shape in manifest.entries}


def _write(path: Path, blob: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(blob)


def load_model(path: Path) -> tuple[MeshNet, Metadata]:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    path : Path
        The JSON, or the folder that holds `model.json`.

    Returns
    -------
    tuple of MeshNet and Metadata
        The network is on the CPU, in evaluation mode.

    Raises
    ------
    ModelError
        If a file is missing, oversized or malformed, or the tensors are not those that the JSON describes.
    """
    path = path / "model.json" if path.is_dir() else path
    card = _card(_read(path, _MOST_TEXT))
    shape = architecture.parse(card["architecture"])
    if len(card["labels"]) != shape.classes:
        raise ModelError(f"the model file names {len(card['labels'])} labels for {shape.classes} classes")
    model = MeshNet(shape).to(_DTYPES[card["dtype"]])
    manifest = vector.manifest(model, "sync")
    blob = _read(path.with_name(card["tensors"]), _MOST_TEXT + manifest.size * 8)
    values = _join(manifest, _tensors(blob), np.dtype(card["dtype"]))
    if payload.digest(manifest, values) != card["digest"]:
        raise ModelError("the tensors do not have the digest that the model's JSON names; copy both files again")
    vector.scatter(model, manifest, values)
    known = {key: card[key] for key in ("labels", "preprocessing", "seed", "versions", "run")}
    return model.eval(), Metadata(**{**known, "labels": tuple(card["labels"])})


def identify(path: Path) -> tuple[str, Path]:
    """Read a model as `load_model` does, and return the digest of all its values and where its tensors lie."""
    model, _ = load_model(path)
    manifest = vector.manifest(model, "sync")
    tensors = path.with_name(_card(_read(path, _MOST_TEXT))["tensors"])
    return payload.digest(manifest, vector.gather(model, manifest)), tensors


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            blob = file.read(most + 1)
    except OSError as error:
        raise ModelError("the model file cannot be read; wanted model.json and its safetensors", str(error)) from None
    if len(blob) > most:
        raise ModelError(f"a model file is larger than the {most} bytes that it can have", str(path))
    return blob


def _card(blob: bytes) -> dict[str, Any]:
    """Read the model's JSON; every key is checked, `architecture` by its own parser."""
    try:
        card = parse_json(blob)
    except ValueError as error:
        raise ModelError(f"the model's JSON cannot be parsed: {error}; wanted the one that was exported") from None
    if not isinstance(card, dict) or set(card) != _KEYS or card["format"] != _FORMAT:
        raise ModelError(f"the model's JSON is not an object of format {_FORMAT} with exactly its keys")
    fits = {
        "labels": isinstance(card["labels"], list) and all(is_text(label, 200) for label in card["labels"]),
        "preprocessing": isinstance(card["preprocessing"], dict),
        "seed": isinstance(card["seed"], int) and not isinstance(card["seed"], bool),
        "versions": isinstance(card["versions"], dict)
        and all(is_text(item, 200) for item in card["versions"].values()),
        "run": isinstance(card["run"], dict),
        "dtype": isinstance(card["dtype"], str) and card["dtype"] in _DTYPES,
        "tensors": is_text(card["tensors"], 200) and Path(card["tensors"]).name == card["tensors"],
        "digest": is_digest(card["digest"]),
    }
    for key, fit in fits.items():
        if not fit:
            raise ModelError(f"{key!r} of the model's JSON is malformed; wanted the one that was exported")
    return card


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
