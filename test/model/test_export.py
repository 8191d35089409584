"""The exported model: raw tensors and a JSON, and nothing that is not what it says."""

import dataclasses
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from computation.errors import ModelError
from computation.model import vector
from computation.model.architecture import named
from computation.model.export import Metadata, load_model, save_model
from computation.model.network import build

LABELS = Metadata(
    labels=("background", "white matter", "grey matter"),
    preprocessing={"normalisation": "quantile", "spacing": [3.0, 3.0, 3.0]},
    seed=4,
    versions={"torch": "2.13.0"},
    run={"rounds": 10, "dice": 0.8},
)


def _model(dtype=torch.float32):
    model = build(named("meshnet-10x5", classes=3), 4, dtype)
    model(torch.randn(1, 1, 6, 6, 6, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path, dtype):
    model = _model(dtype)
    save_model(tmp_path / "model", model, LABELS)
    again, metadata = load_model(tmp_path / "model")
    assert metadata == LABELS
    assert again.architecture == model.architecture
    volume = torch.randn(1, 1, 5, 5, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(volume), model.eval()(volume))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]


def test_two_names_in_one_folder(tmp_path):
    save_model(tmp_path, _model(), LABELS, name="best")
    save_model(tmp_path, build(named("meshnet-10x8", classes=3), 0), LABELS, name="final")
    assert load_model(tmp_path / "best.json")[0].architecture.width == 5
    assert load_model(tmp_path / "final.json")[0].architecture.width == 8


def test_tensors_are_plain_safetensors(tmp_path):
    model = _model()
    save_model(tmp_path, model, LABELS)
    arrays = load_file(tmp_path / "model.safetensors")
    assert np.array_equal(arrays["head.weight"], model.head.weight.detach().numpy())
    assert set(arrays) == {name for name, _ in vector.manifest(model, "sync").entries}


def test_json_says_what_a_reader_needs(tmp_path):
    digest = save_model(tmp_path, _model(), LABELS)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["architecture"]["dilations"] == [1, 2, 4, 8, 16, 8, 4, 2, 1]
    assert card["labels"] == list(LABELS.labels)
    assert card["preprocessing"]["normalisation"] == "quantile"
    assert (card["seed"], card["digest"], card["versions"]) == (4, digest, {"torch": "2.13.0"})


def test_labels_must_be_one_for_each_class(tmp_path):
    with pytest.raises(ModelError, match="2 label names for a model of 3 classes"):
        save_model(tmp_path, _model(), Metadata(labels=("a", "b")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "0" * 64}, "digest"),
        ({"labels": ["a", "b"]}, "2 labels for 3 classes"),
        ({"tensors": "../model.safetensors"}, "'tensors'"),
        ({"tensors": "/etc/passwd"}, "'tensors'"),
        ({"dtype": "object"}, "'dtype'"),
        ({"seed": "x"}, "'seed'"),
        ({"format": "meshnet-model/9"}, "format"),
        ({"extra": 1}, "exactly its keys"),
    ],
)
def test_altered_json_is_refused(tmp_path, change, message):
    save_model(tmp_path, _model(), LABELS)
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path) not in caught.value.public


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"run": {', '"run": {"x": NaN, ', "NaN is not JSON"),
        ('"run": {', '"run": {"x": -Infinity, ', "-Infinity is not JSON"),
        ('"preprocessing": {', '"preprocessing": {"x": 1e999, ', "a number is too large"),
        ('"seed": 4', '"seed": 1' + "0" * 400, "a number is too large"),
        ('"seed": 4', '"seed": 4, "seed": 5', "a name is given twice"),
        ('"run": {', '"run": {"x": ' + "[" * 5000 + "]" * 5000 + ", ", "nested too deeply"),
    ],
)
def test_json_that_is_none_or_holds_what_no_model_can_is_one_named_error(tmp_path, old, new, said):
    save_model(tmp_path, _model(), dataclasses.replace(LABELS, run={"rounds": 2}))
    text = (tmp_path / "model.json").read_text()
    assert text.count(old) == 1
    (tmp_path / "model.json").write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=said):
        load_model(tmp_path)


def _arrays(tmp_path):
    save_model(tmp_path, _model(), LABELS)
    return load_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "dtype", "nan", "value"])
def test_altered_tensors_are_refused(tmp_path, fault):
    arrays = _arrays(tmp_path)
    head = arrays["head.weight"]
    if fault == "missing":
        del arrays["head.bias"]
    elif fault == "extra":
        arrays["other"] = head
    else:
        new = {"shape": head[:, :4], "dtype": head.astype(np.float64), "nan": head * np.nan, "value": head + 1}[fault]
        arrays["head.weight"] = np.ascontiguousarray(new)
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ModelError):
        load_model(tmp_path)


def test_missing_files_are_named_without_their_path(tmp_path):
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "nothing.json")
    assert str(tmp_path) not in caught.value.public
    save_model(tmp_path, _model(), LABELS)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tmp_path)


def test_oversized_files_are_not_read(tmp_path):
    save_model(tmp_path, _model(), LABELS)
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(ModelError, match="larger than"):
        load_model(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=12), st.booleans())
def test_any_damage_is_a_model_error(tmp_path, place, noise, cut):
    folder = tmp_path / "model"
    save_model(folder, _model(), LABELS)
    path = folder / "model.safetensors"
    blob = path.read_bytes()
    place %= len(blob)
    broken = blob[:place] if cut else blob[:place] + noise + blob[place + len(noise) :]
    path.write_bytes(broken)
    if broken == blob:
        return
    try:
        model, _ = load_model(folder)
    except ModelError:
        return
    # Whitespace in the header may change without changing a tensor.
    (length,) = struct.unpack("<Q", blob[:8])
    assert place < 8 + length
    assert torch.equal(model.head.weight, _model().head.weight)
