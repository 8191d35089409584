"""Finding and reading the model that a command names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from computation.errors import ModelError
from computation.model.export import Metadata, load_model
from computation.model.network import MeshNet
from computation.training import preprocessing
from computation.training.device import choose
from computation.training.preprocessing import Preprocessing

__all__ = ["Model", "read"]

#: What a folder of models is searched for, the preferred one first.
_NAMES = ("model.json", "best.json", "final.json", "model/best.json", "model/final.json")


@dataclass(frozen=True, eq=False)
class Model:
    """A network with what must be known to use it."""

    network: MeshNet
    metadata: Metadata
    preprocessing: Preprocessing


def read(path: Path, device: str = "cpu") -> Model:
    """Read a model onto a device.

    Parameters
    ----------
    path : Path
        Its JSON, the folder `model` of a run's output, or that output folder.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises
    ------
    ModelError
        If there is no model, or it is malformed.
    DeviceError
        If the device is not there.
    """
    network, metadata = load_model(_find(path))
    return Model(network.to(choose(device)), metadata, preprocessing.parse(metadata.preprocessing))


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in _NAMES if (path / name).is_file()]
    if not found:
        raise ModelError("the folder holds no exported model; wanted best.json, final.json or model.json", str(path))
    return found[0]
