"""train and export: one site from a database to a model that other software reads."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from consortium import SHORT, database

from computation.commands.train import inputs_of
from computation.errors import SettingsError, StoreError
from computation.model.export import load_model

FAST = [f"{name}={json.dumps(value)}" for name, value in SHORT.items() if name != "data"]


def test_from_a_database_to_exported_files(tools, tmp_path, capsys):
    db = database(tmp_path / "data" / "my scans.db")
    before = db.read_bytes()
    words = [word for text in (*FAST, "norm=batch", "epochs=1") for word in ("--setting", text)]
    assert tools.command("train", db, "--output", tmp_path / "run", *words) in (0, None)
    assert db.read_bytes() == before
    out = tmp_path / "run" / "output" / "local0" / "simulatorRun"
    model, metadata = load_model(out / "model" / "best.json")
    assert model.architecture.norm == "batch"
    assert metadata.labels == ("background", "white matter", "grey matter")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 2
    assert tools.command("evaluate", out, db, "--csv", tmp_path / "scores.csv") == 0
    pytest.importorskip("onnxruntime")
    assert tools.command("export", out, "--onnx", tmp_path / "m.onnx", "--brainchop", tmp_path / "web") == 0
    assert (tmp_path / "m.onnx").is_file()
    told = " ".join(capsys.readouterr().out.split())
    assert "whoever runs it: label only the box of the head and head_margin voxels around it" in told
    onnx = pytest.importorskip("onnx")
    (use,) = (item.value for item in onnx.load(tmp_path / "m.onnx").metadata_props if item.key == "preprocessing")
    assert json.loads(use)["head_margin"] == 4
    assert (tmp_path / "web" / "model.json").is_file()


def test_settings_are_checked_before_anything_starts(tools, tmp_path, capsys):
    db = database(tmp_path / "site.db")
    for text, told in (("epoch=3", "did you mean"), ("epochs=-1", "whole number"), ("epochs", "NAME=VALUE")):
        assert tools.command("train", db, "--output", tmp_path / "run", "--setting", text) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_of_the_users_is_replaced_by_the_link_to_the_database(tools, tmp_path, capsys):
    db = database(tmp_path / "study" / "site" / "local0" / "simulatorRun" / "site.db")
    before = db.read_bytes()
    words = [word for text in FAST for word in ("--setting", text)]
    assert tools.command("train", db, "--output", tmp_path / "study", *words) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert db.read_bytes() == before
    (tmp_path / "file").write_text("")
    assert tools.command("train", db, "--output", tmp_path / "file", *words) == 2
    assert "output folder" in capsys.readouterr().err


def test_inputs_take_json_words_and_the_databases_classes(tmp_path):
    db = database(tmp_path / "site.db", names=("background", "lesion"))
    found = inputs_of(db, ["strategy=fedavg", "patch_size=[8,8,8]", 'model="meshnet-10x5"', "learning_rate=1e-3"])
    assert found == {
        "strategy": "fedavg",
        "patch_size": [8, 8, 8],
        "model": "meshnet-10x5",
        "learning_rate": 1e-3,
        "classes": ["background", "lesion"],
        "min_scans": 1,  # alone, nothing leaves the machine
        "data": ["site.db"],
    }
    with pytest.raises(SettingsError, match="'data'"):
        inputs_of(db, ['data=["other.db"]'])
    with pytest.raises(StoreError, match="no scan to train on"):
        inputs_of(database(tmp_path / "none.db", scans=(0, 1, 1)), [])
    with pytest.raises(StoreError, match="missing"):
        inputs_of(tmp_path / "missing.db", [])


def test_export_says_what_it_wants(tools, tmp_path, capsys):
    model = tools.threshold(tmp_path / "model")
    assert tools.command("export", model) == 2
    assert "--onnx" in capsys.readouterr().err
    grouped = tools.threshold(tmp_path / "grouped", norm="group")
    assert tools.command("export", grouped, "--brainchop", tmp_path / "web") == 0
    assert "norm=batch" in " ".join(capsys.readouterr().out.split())
