"""A trained model in the layout that brainchop loads: a tfjs `layers-model` with batch normalisation folded away.

The folder holds `model.json` (topology and list of weights), `group1-shardNofM.bin` (the weights, little-endian
float32, kernels as `(d, h, w, in, out)`), `labels.json`, `colormap.json` and `brainchop.json`, an entry for brainchop's
list of models. Layers are `Conv3D` and `Activation` in turn, as brainchop's own models have them.

Group normalisation depends on each scan and cannot be folded, and tfjs has no layer for it. But brainchop has, since
the version of August 2025 that brought its MindGrab model, a rule of its own: the output of a convolution whose name
ends in `_gn` is normalised, each channel over the volume, with epsilon 1e-5 and without scale or shift. That is this
network's group normalisation, which has one group for each channel, up to scale and shift; those two follow as a
1x1x1 convolution with a diagonal kernel. An older brainchop takes the name for nothing but a name.

brainchop brings every scan to FreeSurfer's grid (axes L, I, A; 1 mm; 256 voxels a side) and feeds its axes in the order
of the NIfTI file. A model that learnt from scans in RAS+ order gets its kernels turned accordingly: with cubic kernels,
equal dilations and zero padding that is exactly the same network on the turned volume.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from computation.checks import parse_json
from computation.colours import colour_of
from computation.errors import ModelError
from computation.files import replacing
from computation.model.export import Metadata
from computation.model.network import Layer, MeshNet

__all__ = ["apply_brainchop", "read_brainchop", "save_brainchop", "turned"]

#: Bytes of one weight file, as tfjs cuts them.
_SHARD = 4 << 20

#: How far the scores may lie apart, relative to the largest where that is above 1.
_TOLERANCE = 1e-5

#: The ending of a layer's name by which brainchop knows that its output is to be normalised, and with which epsilon.
_NORMALISED, _EPSILON = "_gn", 1e-5

_SIDE = 256

#: What brainchop cuts off before the network sees a scan: all but the box of what is brighter than a share of the
#: brightest voxel, and some voxels around it. A raw head's air is noise, and there the share is no exact science.
_CROPS: dict[bool, dict[str, float]] = {
    True: {"autoThreshold": 0, "cropPadding": 4},
    False: {"autoThreshold": 0.1, "cropPadding": 18},
}
_ACTIVATIONS: dict[str, Any] = {
    "relu": torch.nn.functional.relu,
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
}

#: What brainchop's own min-max and quantile normalisation stand for among ours.
_NORMALISATIONS = {"min-max": False, "quantile": True}

# Its annotation is not for these arguments.
_conv3d: Any = torch.nn.functional.conv3d

Weights = dict[str, NDArray[np.float32]]


def save_brainchop(folder: Path, model: MeshNet, metadata: Metadata) -> tuple[float, tuple[str, ...]]:
    """Write a model for brainchop, and read it back to see that it computes the same.

    Parameters
    ----------
    folder : Path
        Made if missing.
    model : MeshNet
        With any normalisation; with group normalisation only a brainchop of August 2025 or later computes the same.
    metadata : Metadata
        Of the model.

    Returns
    -------
    float
        Largest difference between the scores, relative to the largest score where that is above 1.
    tuple of str
        Where brainchop will treat scans in another way than this model's training did.

    Raises
    ------
    ModelError
        If the group normalisation is not the one that brainchop has, a file cannot be written, or the scores differ by
        more than 1e-5.
    """
    ras = metadata.preprocessing.get("like", "ras") == "ras"
    exact = copy.deepcopy(model).cpu().double().eval()
    topology, weights = _layers(exact, ras)
    files = {**_weight_files(weights), **_side_files(exact, metadata)}
    shards = [name for name in files if name.endswith(".bin")]
    # Last, so that a model.json that is there has everything that it names.
    files["model.json"] = _json(_model_json(topology, weights, shards))
    try:
        _write_all(folder, files)
    except OSError as error:
        raise ModelError("the brainchop folder cannot be written; check it and the space", str(error)) from error
    difference = _difference(folder, exact, ras)
    if not difference <= _TOLERANCE:
        (folder / "model.json").unlink(missing_ok=True)
        raise ModelError(f"the folded model's scores differ by {difference:.2g}; wanted at most {_TOLERANCE:g}")
    return difference, _cautions(model, metadata)


def turned(volume: NDArray[Any]) -> NDArray[Any]:
    """Turn the first three axes from R, A, S order into L, I, A order."""
    return volume.swapaxes(1, 2)[::-1, ::-1]


def _layers(model: MeshNet, ras: bool) -> tuple[list[dict[str, Any]], Weights]:
    """Return the chain of layers, and the folded weights by name."""
    shape = {
        "batch_input_shape": [None, _SIDE, _SIDE, _SIDE, 1],
        "dtype": "float32",
        "sparse": False,
        "ragged": False,
        "name": "input",
    }
    layers: list[dict[str, Any]] = [{"class_name": "InputLayer", "config": shape, "name": "input", "inbound_nodes": []}]
    weights: Weights = {}
    for place, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        for name, kernel, bias in _convolutions(layer, place):
            weights |= _named(name, kernel, bias, ras)
            layers.append(_layer("Conv3D", name, layers[-1]["name"], _conv(kernel, layer.conv.dilation, bias)))
        act, before = f"activation_{2 * place + 1}", layers[-1]["name"]
        layers.append(_layer("Activation", act, before, {"activation": model.architecture.activation}))
    head = model.head.weight.detach()
    assert model.head.bias is not None
    weights |= _named("output", head, model.head.bias.detach(), ras)
    layers.append(_layer("Conv3D", "output", layers[-1]["name"], _conv(head, 1, model.head.bias)))
    return layers, weights


def _convolutions(layer: Layer, place: int) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield name, kernel and bias of the convolutions that stand for a layer's convolution and normalisation."""
    name, norm = f"conv3d_{2 * place}", layer.norm
    if not isinstance(norm, torch.nn.GroupNorm):
        yield name, *_folded(layer)
        return
    if norm.num_groups != norm.num_channels or norm.eps != _EPSILON:
        raise ModelError(
            "brainchop normalises each channel on its own with epsilon 1e-5; this model's groups are others. Train "
            "with norm=batch, or export to ONNX"
        )
    bias = layer.conv.bias
    yield name + _NORMALISED, layer.conv.weight.detach(), None if bias is None else bias.detach()
    yield f"scale_{2 * place}", norm.weight.detach().diag()[..., None, None, None], norm.bias.detach()


def _folded(layer: Layer) -> tuple[Tensor, Tensor]:
    """Fold batch normalisation, which is linear once its statistics are fixed, into kernel and bias."""
    conv, norm = layer.conv, layer.norm
    kernel = conv.weight.detach()
    bias = kernel.new_zeros(len(kernel)) if conv.bias is None else conv.bias.detach()
    if not isinstance(norm, torch.nn.BatchNorm3d):
        return kernel, bias
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return kernel * scale.view(-1, 1, 1, 1, 1), (bias - norm.running_mean) * scale + norm.bias.detach()


def _named(name: str, kernel: Tensor, bias: Tensor | None, ras: bool) -> Weights:
    # (out, in, d, h, w) to (d, h, w, in, out)
    spread = kernel.permute(2, 3, 4, 1, 0).numpy()
    found = {f"{name}/kernel": (turned(spread) if ras else spread).astype("<f4")}
    return found if bias is None else found | {f"{name}/bias": bias.numpy().astype("<f4")}


def _layer(kind: str, name: str, before: str, config: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"name": name, "trainable": False, "dtype": "float32", **config}
    return {"class_name": kind, "config": whole, "name": name, "inbound_nodes": [[[before, 0, 0, {}]]]}


def _conv(kernel: Tensor, dilation: int, bias: Tensor | None) -> dict[str, Any]:
    return {
        "filters": kernel.shape[0],
        "kernel_size": list(kernel.shape[2:]),
        "strides": [1, 1, 1],
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [dilation if kernel.shape[-1] > 1 else 1] * 3,
        "groups": 1,
        "activation": "linear",
        "use_bias": bias is not None,
    }


def _weight_files(weights: Weights) -> dict[str, bytes]:
    blob = b"".join(array.tobytes() for array in weights.values())
    count = math.ceil(len(blob) / _SHARD)
    return {
        f"group1-shard{place + 1}of{count}.bin": blob[place * _SHARD : (place + 1) * _SHARD] for place in range(count)
    }


def _model_json(layers: Sequence[Mapping[str, Any]], weights: Weights, shards: Sequence[str]) -> dict[str, Any]:
    config = {"name": "model", "layers": layers, "input_layers": [["input", 0, 0]]}
    config["output_layers"] = [["output", 0, 0]]
    topology = {"keras_version": "2.7.0", "backend": "tensorflow"}
    listed = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
    return {
        "format": "layers-model",
        "generatedBy": "coinstac-meshnet",
        "convertedBy": None,
        "modelTopology": {**topology, "model_config": {"class_name": "Functional", "config": config}},
        "weightsManifest": [{"paths": list(shards), "weights": listed}],
    }


def _side_files(model: MeshNet, metadata: Metadata) -> dict[str, bytes]:
    names = metadata.labels
    hexes = [colour_of(index) for index in range(len(names))]
    colours = {channel: [int(one[at : at + 2], 16) for one in hexes] for channel, at in (("R", 1), ("G", 3), ("B", 5))}
    return {
        "labels.json": _json({str(index): name for index, name in enumerate(names)}),
        "colormap.json": _json({**colours, "labels": list(names)}),
        "brainchop.json": _json(_entry(model, metadata)),
    }


def _entry(model: MeshNet, metadata: Metadata) -> dict[str, Any]:
    """Return an entry for the list in brainchop's `brainchop-parameters.js`; the id and paths are for its owner."""
    return {
        "id": 1,
        "type": "Segmentation",
        "path": "/models/meshnet/model.json",
        "modelName": f"{model.architecture.name}, {len(metadata.labels)} classes",
        "colormapPath": "./models/meshnet/colormap.json",
        "preModelId": None,
        "preModelPostProcess": False,
        "isBatchOverlapEnable": False,
        "numOverlapBatches": 0,
        "enableTranspose": True,
        "enableCrop": True,
        **_CROPS[metadata.preprocessing.get("stripped") is True],
        "enableQuantileNorm": _NORMALISATIONS.get(str(metadata.preprocessing.get("normalisation")), False),
        "filterOutWithPreMask": False,
        "enableSeqConv": False,
        "textureSize": 0,
        "warning": None,
        "inferenceDelay": 100,
        "description": "Trained with coinstac-meshnet. Research use only.",
    }


def _cautions(model: MeshNet, metadata: Metadata) -> tuple[str, ...]:
    how, found = metadata.preprocessing, list[str]()
    if model.architecture.norm == "group":
        found.append(
            "group normalisation needs a brainchop of August 2025 or later, and must not be a pre-model there: an "
            "older one shows wrong labels without a word; train with norm=batch for those"
        )
        if how.get("tile"):
            found.append(
                "this model learnt from sub-volumes and brainchop has no tiles: over a whole head its group "
                "normalisation meets other statistics, so expect worse results there; train with norm=batch"
            )
    scheme = how.get("normalisation")
    if scheme == "quantile":
        found.append(
            "brainchop's quantiles are 5 % and 95 % of all voxels; this model learnt from 2 % and 98 % of the head"
        )
    elif scheme not in _NORMALISATIONS:
        found.append(f"brainchop has no normalisation like {scheme!r}; expect worse results there")
    if how.get("spacing") != [1.0, 1.0, 1.0]:
        found.append("brainchop works at 1 mm; this model learnt from another spacing, so expect worse results there")
    return tuple(found)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(blob)


def read_brainchop(folder: Path) -> tuple[list[dict[str, Any]], Weights]:
    """Read a tfjs `layers-model` back.

    Parameters
    ----------
    folder : Path
        Holds `model.json` and the weight files that it names.

    Returns
    -------
    list of dict
        The layers, in order.
    dict of numpy.ndarray
        Weights by name.

    Raises
    ------
    ModelError
        If a file is missing or the weights are not as many as listed.
    """
    try:
        card = parse_json((folder / "model.json").read_bytes())
        (group,) = card["weightsManifest"]
        blob = b"".join((folder / Path(name).name).read_bytes() for name in group["paths"])
        layers: list[dict[str, Any]] = card["modelTopology"]["model_config"]["config"]["layers"]
        return layers, _cut(blob, group["weights"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("the brainchop model cannot be read; export it again", str(error)) from error


def _cut(blob: bytes, listed: Sequence[Mapping[str, Any]]) -> Weights:
    values, start, found = np.frombuffer(blob, "<f4"), 0, {}
    for item in listed:
        size = math.prod(item["shape"])
        found[item["name"]] = values[start : start + size].reshape(item["shape"])
        start += size
    if start != values.size:
        raise ValueError(f"{values.size} weights for {start} places")
    return found


def apply_brainchop(
    layers: Sequence[Mapping[str, Any]], weights: Weights, volume: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the scores of a model that was read back, in float64, following its JSON alone.

    Parameters
    ----------
    layers, weights
        From `read_brainchop`.
    volume : numpy.ndarray of float64
        Shape `(D, H, W)`.

    Returns
    -------
    numpy.ndarray of float64
        Shape `(classes, D, H, W)`.
    """
    here = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    for layer in layers[1:]:
        config = layer["config"]
        if layer["class_name"] == "Activation":
            here = _ACTIVATIONS[config["activation"]](here)
            continue
        parts = ("kernel", "bias") if config["use_bias"] else ("kernel",)
        kernel, *bias = (torch.from_numpy(weights[f"{layer['name']}/{part}"].astype(float)) for part in parts)
        (dilation, *_), side = config["dilation_rate"], kernel.shape[0]
        padding = dilation * (side - 1) // 2
        bias_or_none = bias[0] if bias else None
        here = _conv3d(here, kernel.permute(4, 3, 0, 1, 2), bias_or_none, 1, padding, dilation)
        if layer["name"].endswith(_NORMALISED):
            variance, mean = torch.var_mean(here, (2, 3, 4), correction=0, keepdim=True)
            here = (here - mean) / torch.sqrt(variance + _EPSILON)
    scores: NDArray[np.float64] = here[0].numpy()
    return scores


def _difference(folder: Path, exact: MeshNet, ras: bool) -> float:
    """Compare the files with the model on noise, on the axes that brainchop has."""
    layers, weights = read_brainchop(folder)
    volume = np.random.default_rng(2024).random((17, 22, 19))
    with torch.inference_mode():
        wanted = exact(torch.from_numpy(volume)[None, None])[0].numpy()
    seen = apply_brainchop(layers, weights, turned(volume) if ras else volume)
    if ras:
        wanted = np.stack([turned(one) for one in wanted])
    return float(np.abs(seen - wanted).max() / max(1.0, np.abs(wanted).max()))
