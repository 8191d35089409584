"""ONNX export: another runtime computes the same scores, and nothing unverified is left behind."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from computation.errors import ModelError
from computation.model import export_onnx
from computation.model.architecture import named
from computation.model.export import Metadata
from computation.model.network import build

LABELS = Metadata(("background", "white matter", "grey matter"), {"normalisation": "quantile"}, run={"rounds": 3})


def trained(norm="batch", activation="elu", name="meshnet-10x5", dtype=torch.float32):
    """A network whose every parameter and statistic is off its initial value."""
    model = build(named(name, classes=3, norm=norm, activation=activation), 4, dtype)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=stream, dtype=torch.float64).to(dtype)
    return model


@pytest.mark.parametrize(
    ("norm", "activation"), list(itertools.product(("batch", "group", "none"), ("relu", "elu", "gelu")))
)
def test_onnxruntime_computes_the_same(tmp_path, norm, activation):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = trained(norm, activation)
    assert export_onnx.save_onnx(tmp_path / "out" / "model.onnx", model, LABELS) <= 1e-4
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    image = np.random.default_rng(5).random((2, 1, 13, 20, 9), np.float32)
    with torch.inference_mode():
        wanted = model.eval()(torch.from_numpy(image)).numpy()
    assert np.abs(session.run(None, {"image": image})[0] - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def test_the_file_says_what_a_reader_needs(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = trained(dtype=torch.float64)
    training = model.training
    export_onnx.save_onnx(tmp_path / "model.onnx", model, LABELS)
    assert (model.training, model.head.weight.dtype) == (training, torch.float64)
    props = {item.key: json.loads(item.value) for item in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert props == {"labels": list(LABELS.labels), "preprocessing": LABELS.preprocessing, "run": LABELS.run}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    right = export_onnx._ACTIVATIONS
    monkeypatch.setattr(export_onnx, "_ACTIVATIONS", {**right, "elu": right["relu"]})
    with pytest.raises(ModelError, match="scores differ"):
        export_onnx.save_onnx(tmp_path / "model.onnx", trained(), LABELS)
    assert not list(tmp_path.iterdir())


def test_missing_packages_and_folders_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="`export` extra"):
        export_onnx.save_onnx(tmp_path / "model.onnx", trained(), LABELS)


EXPORT = """
import sys
from pathlib import Path
from computation.model.architecture import named
from computation.model.export import Metadata
from computation.model.export_onnx import save_onnx
from computation.model.network import build
save_onnx(Path(sys.argv[1]), build(named("meshnet-10x5", classes=3), 0), Metadata(("a", "b", "c"), {}))
"""


def test_onnxruntime_is_told_to_send_nothing_to_its_maker(tmp_path):
    """It keeps what it would send in the cache folder, from the moment it is loaded."""
    pytest.importorskip("onnxruntime")
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", EXPORT, str(tmp_path / "model.onnx")]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=home, check=True, timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
