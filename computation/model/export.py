"""A trained model as two files: raw tensors (safetensors) and a JSON that says what they are.

How the files are read, and what they are checked for, is in `exported`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import numpy as tensors

from computation.errors import ModelError
from computation.files import replacing
from computation.model import exported, vector
from computation.model.exported import Card
from computation.model.network import MeshNet
from computation.wire import payload
from computation.wire.payload import Manifest, Vector

__all__ = ["Metadata", "load_model", "save_model"]

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


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
        "format": exported.FORMAT,
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
    card = Card.parse(exported.read(path, exported.MOST_TEXT))
    values = card.values(exported.read(path.with_name(card.tensors), card.most))
    model = MeshNet(card.architecture).to(_DTYPES[card.table["dtype"]])
    vector.scatter(model, card.manifest, values)
    known = {key: card.table[key] for key in ("preprocessing", "seed", "versions", "run")}
    return model.eval(), Metadata(labels=card.labels, **known)
