"""The command line itself: what is listed can be typed, and what cannot be written is told."""

import json
from pathlib import Path

import pytest

from computation.cli import main

ROOT = Path(__file__).parents[1]


def test_settings_are_listed_as_they_are_typed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["settings"]) == 0
    cells = [[cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    rows = {row[1]: row[2:4] for row in cells if len(row) > 4}
    assert rows["epochs"] == ["0", "0 to 1000000"]
    assert rows["seed"] == ["0", "0 to 2147483647"]
    assert rows["learning_rate"] == ["0.04", "above 0, to 10"]
    assert rows["dropout"] == ["-1.0", "-1 to 0.9"]
    strategies = "gradient-mean, fedavg, fedprox, fedavgm, fedadam, fedyogi, fedadagrad, scaffold"
    assert rows["strategy"] == ["gradient-mean", strategies]
    assert json.loads(rows["classes"][0]) == ["background", "white matter", "grey matter"]
    assert json.loads(rows["patch_size"][0]) == [64, 64, 64]
    assert rows["device"][0] == "auto"


def test_specs_are_those_of_the_repository(tmp_path, capsys):
    assert main(["specs", str(tmp_path / "new")]) == 0
    for name in ("compspec.json", "inputspec.json"):
        assert (tmp_path / "new" / name).read_bytes() == (ROOT / name).read_bytes()
    (tmp_path / "file").write_text("")
    assert main(["specs", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_missing_command_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
