"""A trained model as ONNX, checked against the original as soon as it is written.

The network is a chain, so its graph is put together node by node; PyTorch's own exporter would need a compiler front
end (`onnxscript`) to find out the same. Group normalisation with one group for each channel is ONNX's
`InstanceNormalization`.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from computation.errors import ModelError
from computation.files import replacing
from computation.model.export import Metadata
from computation.model.network import Layer, MeshNet

__all__ = ["INPUT", "OPSET", "OUTPUT", "save_onnx"]

#: The first operator set that has `Gelu`; ONNX Runtime knows it from version 1.17.
OPSET = 20

INPUT, OUTPUT = "image", "scores"

#: How far the scores may lie apart, relative to the largest where that is above 1.
_TOLERANCE = 1e-4

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "gelu": ("Gelu", {"approximate": "none"}),
}


def save_onnx(path: Path, model: MeshNet, metadata: Metadata) -> float:
    """Write a model as ONNX; the file appears only after ONNX Runtime computed the same scores with it.

    The input `image` is float32 `(N, 1, D, H, W)`, normalised as the model's preprocessing says; the output `scores` is
    float32 `(N, classes, D, H, W)`, before the softmax. Labels and preprocessing are in the file's metadata, as JSON;
    the latter's `use` says what to label at all.

    Parameters
    ----------
    path : Path
        The file to write.
    model : MeshNet
        Any; a float64 model is rounded to float32.
    metadata : Metadata
        Of the model.

    Returns
    -------
    float
        Largest difference between the scores, relative to the largest score where that is above 1.

    Raises
    ------
    ModelError
        If a package is missing, the file cannot be written, or the scores differ by more than 1e-4.
    """
    blob = _serialised(copy.deepcopy(model).cpu().float().eval(), metadata)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(blob)
            difference = _difference(partial, model)
            if not difference <= _TOLERANCE:
                raise ModelError(f"ONNX Runtime's scores differ by {difference:.2g}; wanted at most {_TOLERANCE:g}")
    except OSError as error:
        raise ModelError("the ONNX file cannot be written; check folder and free space", str(error)) from error
    return difference


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = f"ONNX export needs the {name.partition('.')[0]} package; install this software with its `export` extra"
        raise ModelError(text, str(error)) from error


def _serialised(model: MeshNet, metadata: Metadata) -> bytes:
    onnx = _package("onnx")
    _package("onnx.numpy_helper")
    nodes, tensors = _chain(onnx, model)
    shape: dict[str, list[int | str]] = {INPUT: ["N", 1, "D", "H", "W"]}
    shape[OUTPUT] = ["N", model.architecture.classes, "D", "H", "W"]
    kind = onnx.TensorProto.FLOAT
    ends = [[onnx.helper.make_tensor_value_info(name, kind, shape[name])] for name in (INPUT, OUTPUT)]
    graph = onnx.helper.make_graph(nodes, model.architecture.name, *ends, tensors)
    whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=9)
    facts = {"labels": list(metadata.labels), "preprocessing": metadata.preprocessing, "run": metadata.run}
    onnx.helper.set_model_props(whole, {key: json.dumps(value) for key, value in facts.items()})
    onnx.checker.check_model(whole)
    blob: bytes = whole.SerializeToString()
    return blob


def _chain(onnx: Any, model: MeshNet) -> tuple[list[Any], list[Any]]:
    """Return the nodes of the graph in order, and its constants."""
    nodes: list[Any] = []
    tensors = [
        onnx.numpy_helper.from_array(tensor.detach().numpy(), name)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    ]
    here = INPUT
    for place, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        for kind, constants, attributes in _steps(layer, f"layers.{place}", model.architecture.activation):
            there = f"{place}.{kind}"
            nodes.append(onnx.helper.make_node(kind, [here, *constants], [there], name=there, **attributes))
            here = there
    nodes.append(onnx.helper.make_node("Conv", [here, "head.weight", "head.bias"], [OUTPUT], name="head"))
    return nodes, tensors


def _steps(layer: Layer, name: str, activation: str) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return operator, constants and attributes of the steps of one hidden layer."""
    conv, norm = layer.conv, layer.norm
    constants = [f"{name}.conv.weight", *([f"{name}.conv.bias"] if conv.bias is not None else [])]
    dilation = conv.dilation
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Conv", constants, {"dilations": [dilation] * 3, "pads": [dilation] * 6})
    ]
    affine = [f"{name}.norm.weight", f"{name}.norm.bias"]
    if isinstance(norm, torch.nn.GroupNorm):
        steps.append(("InstanceNormalization", affine, {"epsilon": norm.eps}))
    elif isinstance(norm, torch.nn.BatchNorm3d):
        moments = [f"{name}.norm.running_mean", f"{name}.norm.running_var"]
        steps.append(("BatchNormalization", [*affine, *moments], {"epsilon": norm.eps}))
    operator, attributes = _ACTIVATIONS[activation]
    return [*steps, (operator, [], attributes)]


def _difference(path: Path, model: MeshNet) -> float:
    """Compare both networks on noise, on volumes of two sizes, odd sides among them."""
    # Since 1.29 the library sends usage data to its maker, unless this is set before it is loaded.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    runtime = _package("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(model).cpu().eval()
    worst = 0.0
    for number, sides in enumerate(((24, 20, 22), (17, 33, 19))):
        image = np.random.default_rng([2024, number]).random((1, 1, *sides), np.float32)
        with torch.inference_mode():
            wanted = exact(torch.from_numpy(image).to(exact.head.weight.dtype)).numpy()
        (seen,) = session.run([OUTPUT], {INPUT: image})
        worst = max(worst, float(np.abs(seen - wanted).max() / max(1.0, np.abs(wanted).max())))
    return worst
