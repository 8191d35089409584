"""Weights & Biases: off unless asked, never the key, never a reason to stop."""

import importlib.util
import os
import subprocess
import sys
import types

import pytest

from computation.tracking import RoundNumbers, Tracker, read
from computation.tracking.wandb import named_metrics

CLASSES = ("background", "white matter", "grey matter")
KEY = "0123456789abcdef0123456789abcdef01234567"
ROUND = RoundNumbers(
    3,
    "d",
    loss=0.9,
    own_loss=0.4,
    learning_rate=0.02,
    validated=2,
    dice={"background": 0.5, "white matter": 0.5, "grey matter": 0.5},
    own_dice={"background": 0.99, "white matter": 0.8, "grey matter": None},
)


class Fake(types.ModuleType):
    """Stands for the library: records what it is told, and fails where it is asked to."""

    def __init__(self, fails=""):
        super().__init__("wandb")
        self.fails, self.told, self.logged, self.ended = fails, {}, [], []

    def Settings(self, **options):
        return options

    def _maybe(self, where):
        if self.fails == where:
            raise RuntimeError(f"{where} went wrong for key {KEY}")

    def init(self, **options):
        self._maybe("init")
        self.told = options
        return self

    def define_metric(self, *names, **options):
        self._maybe("define_metric")

    def log(self, values):
        self._maybe("log")
        self.logged.append(values)

    def finish(self):
        self._maybe("finish")
        self.ended.append("run")

    def teardown(self):
        self.ended.append("service")


@pytest.fixture
def fake(monkeypatch):
    module = Fake()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return module


def train(folder, wish, rounds=2):
    with Tracker(folder) as tracker:
        tracker.begin(run="r1", rounds=rounds, classes=CLASSES, site="local0", wandb=wish, config={"model": "m"})
        for _ in range(rounds):
            tracker.round(ROUND)
    return [entry["event"] for entry in read(folder / "journal.jsonl")]


def test_names_are_the_prototype_s_and_numbers_this_site_s_own():
    found = named_metrics(ROUND, CLASSES)
    assert found["loss"] == 0.4
    assert found["Step_LR"] == 0.02
    assert found["round"] == 3
    for prefix in ("Dice", "Val Dice"):
        assert found[f"{prefix} 0"] == 0.99
        assert found[f"{prefix} 1"] == 0.8
        assert f"{prefix} 2" not in found
        assert found[f"{prefix} Score"] == pytest.approx(0.895)


def test_numbers_that_are_not_finite_are_not_sent():
    assert named_metrics(RoundNumbers(1, "", own_loss=float("nan")), CLASSES) == {"round": 1}


def test_offline_run(tmp_path, fake):
    assert train(tmp_path, {"project": "p", "entity": "lab"}) == ["wandb", "round", "round"]
    told = fake.told
    assert (told["project"], told["entity"], told["mode"], told["name"]) == ("p", "lab", "offline", "r1-local0")
    assert told["config"] == {
        "model": "m",
        "class 0": "background",
        "class 1": "white matter",
        "class 2": "grey matter",
    }
    assert told["settings"]["api_key"] is None
    assert told["dir"] == str(tmp_path / "wandb")
    assert len(fake.logged) == 2
    assert fake.ended == ["run", "service"]


@pytest.mark.parametrize("where", ["member", "environment"])
def test_the_key_reaches_the_library_and_nothing_else(tmp_path, fake, monkeypatch, where):
    wish = {"mode": "online"}
    if where == "member":
        wish["api_key"] = KEY
    else:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    train(tmp_path, wish)
    assert fake.told["settings"]["api_key"] == KEY
    assert KEY not in str({name: value for name, value in fake.told.items() if name != "settings"})
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_online_without_a_key_says_so_and_does_not_even_import(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert train(tmp_path, {"mode": "online"}) == ["wandb-failed", "round", "round"]
    assert "WANDB_API_KEY" in read(tmp_path / "journal.jsonl")[0]["error"]


def test_a_library_that_is_not_installed_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert train(tmp_path, {"mode": "offline"}) == ["wandb-failed", "round", "round"]


@pytest.mark.parametrize(
    ("where", "events"),
    [
        ("init", ["wandb-failed", "round", "round"]),
        ("define_metric", ["wandb-failed", "round", "round"]),
        ("log", ["wandb", "round", "wandb-failed", "round"]),
        ("finish", ["wandb", "round", "round", "wandb-failed"]),
    ],
)
def test_a_failure_is_one_line_without_the_key_and_training_goes_on(tmp_path, monkeypatch, where, events):
    monkeypatch.setitem(sys.modules, "wandb", Fake(fails=where))
    assert train(tmp_path, {"mode": "online", "api_key": KEY}) == events
    text = (tmp_path / "journal.jsonl").read_text()
    assert KEY not in text
    assert "***" in text


GUARD = """
import sys
seen = []
def hook(event, args):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.fork"):
        seen.append(event)
    if event == "import" and str(args[0]).split(".")[0] == "wandb":
        seen.append("import wandb")
sys.addaudithook(hook)
from pathlib import Path
from computation.tracking import RoundNumbers, Tracker
with Tracker(Path(sys.argv[1])) as tracker:
    tracker.begin(run="r", rounds=1, classes=("background", "lesion"), site="local0", wandb={}, config={})
    tracker.round(RoundNumbers(1, "d", own_loss=0.5))
assert "wandb" not in sys.modules, "imported"
assert not seen, seen
"""


def test_off_neither_imports_nor_contacts_anything(tmp_path):
    environment = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    done = subprocess.run([sys.executable, "-c", GUARD, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "wandb").exists()


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the optional library is not installed")
def test_the_real_library_writes_an_offline_run(tmp_path):
    assert train(tmp_path, {"project": "p"}) == ["wandb", "round", "round"]
    assert list((tmp_path / "wandb").rglob("*.wandb"))
