"""An interrupted run goes on: whatever stopped it, wherever it stood, it ends as the unbroken run does."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from consortium import SHORT, consortium, database
from rich.console import Console

from computation.cli import main
from computation.errors import MeshNetError, SimulatorError
from computation.tracking import notices, read, rounds
from simulator import command, embedded, transfer
from simulator.course import Course
from simulator.layout import CENTRE, RUN, Layout
from simulator.observer import Observer

pytestmark = pytest.mark.timeout(200)
SUMMING = [sys.executable, str(Path(__file__).with_name("summing.py"))]
NODES = ("local0", "local1", CENTRE)


class Interrupt(Observer):
    """Ends the run at one moment, as Ctrl-C does."""

    def __init__(self, *moment):
        self.moment, self.plan, self.resumed, self.cycles = moment, None, None, []

    def _strike(self, *moment):
        if moment == self.moment:
            self.moment = ()
            raise KeyboardInterrupt

    def on_resume(self, iteration, plan):
        self.resumed, self.plan = iteration, plan

    def on_call(self, client, iteration):
        self._strike("call", client, iteration)

    def on_reply(self, client, iteration, output):
        self._strike("reply", client, iteration)

    def on_cycle(self, cycle, output):
        self.cycles.append(cycle)
        self._strike("cycle", cycle.iteration)


class Runs:
    """The summing stand-in: two sites, four iterations, a total of 44."""

    def __init__(self, root):
        self.options = {"command": SUMMING, "deadline": 30}
        self.root, self.inputs = root / "run", root / "inputs"
        self.spec = [{"number": {"value": 10**site}, "rounds": {"value": 4}, "size": {"value": 99}} for site in (0, 1)]
        for site in (0, 1):
            (self.inputs / f"local{site}" / RUN).mkdir(parents=True)

    def start(self, observer=None, **options):
        options = {**self.options, "observer": observer, **options}
        return embedded.run(self.spec, inputs=self.inputs, output=self.root, **options)

    def resume(self, observer=None):
        return embedded.resume(self.root, observer=observer, **self.options)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


MOMENTS = [
    *[(kind, client, iteration) for kind in ("call", "reply") for client in NODES for iteration in (2, 3, 4)],
    *[("cycle", iteration) for iteration in (1, 2, 3, 4)],
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: "-".join(map(str, moment)))
def test_an_interrupted_run_ends_as_the_unbroken_one(runs, moment):
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt(*moment), shuffle_seed=1)
    watcher = Interrupt()
    result = runs.resume(watcher)
    done = moment[-1] if moment[0] == "cycle" else moment[-1] - 1
    assert result.output["total"] == 44 and result.resumed_after == watcher.resumed == done
    assert watcher.plan["round"] == 1
    assert [cycle.iteration for cycle in result.cycles] == [1, 2, 3, 4]
    summary = json.loads((runs.root / "summary.json").read_text())
    assert summary["total"] == 44 and summary["iterations"] == 4 and summary["resumed_after_iteration"] == done
    for site in ("local0", "local1"):
        assert (Layout(runs.root).output(site) / "__cx_total.bin").read_bytes()[0] == 4


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("iteration", [2, 4])
def test_files_that_were_on_their_way_arrive(runs, monkeypatch, place, iteration):
    """The centre's file reaches one site after the other: stopped before, between, after, and before that is noted."""
    steps = []

    def at(step):
        steps.append(step)
        if sum(step == "send" for step in steps) == iteration and step == ("send", "copied", "moved", "arrived")[place]:
            raise KeyboardInterrupt

    def broadcast(source, targets):
        at("send")
        for target in targets[:-1]:
            transfer._copy(source, target)
            at("copied")
        moved = transfer.move(source, targets[-1])
        at("moved")
        return moved

    def arrived(self, cycle):
        at("arrived")
        return plain(self, cycle)

    with monkeypatch.context() as patch:
        plain = Course.arrived
        patch.setattr(transfer, "broadcast", broadcast)
        patch.setattr(Course, "arrived", arrived)
        with pytest.raises(KeyboardInterrupt):
            runs.start()
    result = runs.resume()
    assert result.output["total"] == 44 and result.resumed_after == iteration
    assert [cycle.iteration for cycle in result.cycles] == [1, 2, 3, 4]


def test_it_can_be_interrupted_again_and_again(runs):
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt("reply", "local1", 2))
    for moment in (("reply", CENTRE, 2), ("call", "local0", 3), ("reply", "local0", 3), ("call", CENTRE, 4)):
        with pytest.raises(KeyboardInterrupt):
            runs.resume(Interrupt(*moment))
    assert runs.resume().output["total"] == 44


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(runs, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Fill(Observer):
        def on_call(self, client, iteration):
            if (client, iteration) == (CENTRE, 3):
                patch.setattr(os, "write", full)

    with monkeypatch.context() as patch, pytest.raises(MeshNetError, match="free some space"):
        runs.start(Fill())
    assert not (runs.root / "summary.json").exists()
    assert runs.resume().output["total"] == 44


def test_a_finished_run_is_told_again_and_nothing_is_started(runs):
    runs.start()
    (runs.root / "summary.json").unlink()
    watcher = Interrupt()
    assert runs.resume(watcher).output["total"] == 44
    assert watcher.cycles == [] and json.loads((runs.root / "summary.json").read_text())["total"] == 44


def test_nothing_to_go_on_with_is_told(runs, tmp_path):
    with pytest.raises(SimulatorError, match="no run to go on with"):
        runs.resume()
    assert not runs.root.exists()
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt("call", CENTRE, 1))
    with pytest.raises(SimulatorError, match="before its first iteration was over"):
        runs.resume()
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt("cycle", 2))
    for path in (runs.root / "course").glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MeshNetError, match="damaged"):
        runs.resume()
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt("cycle", 2))
    (Layout(runs.root).base("local1")).rename(tmp_path / "gone")
    with pytest.raises(SimulatorError, match="is gone"):
        runs.resume()


def test_how_to_go_on_is_told(runs, monkeypatch):
    def arrived(self, cycle):
        if cycle.iteration == 3:
            raise KeyboardInterrupt
        return plain(self, cycle)

    monkeypatch.setattr(embedded, "run", partial(embedded.run, command=SUMMING))
    monkeypatch.setattr(embedded, "resume", partial(embedded.resume, command=SUMMING))
    shown = Console(record=True, width=300, force_terminal=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        plain = Course.arrived
        patch.setattr(Course, "arrived", arrived)
        command.simulate(runs.spec, inputs=runs.inputs, output=runs.root / "a b", console=shown)
    told = f"coinstac-meshnet simulate --resume --output '{runs.root}/a b'"
    assert f"kept up to iteration 2; to go on: {told}" in shown.export_text()
    order = Course(runs.root / "a b" / "course").order()
    assert command.resume(runs.root / "a b", order, shown).output["total"] == 44
    assert "going on after iteration 3" in shown.export_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sites", "3"], "--sites"),
        (["--shuffle", "5"], "--shuffle"),
        (["--input", "elsewhere"], "--input"),
        (["--engine", "docker"], "--engine"),
        (["other.json"], "the inputspec"),
        (["--deadline", "60"], "keeps its model and the time that is left"),
    ],
)
def test_another_run_than_the_interrupted_one_is_refused(runs, monkeypatch, capsys, words, said):
    with pytest.raises(KeyboardInterrupt):
        runs.start(Interrupt("cycle", 2))
    monkeypatch.chdir(runs.inputs.parent)
    Path("other.json").write_text(json.dumps([{**site, "rounds": {"value": 9}} for site in runs.spec]))
    Path("same.json").write_text(json.dumps(runs.spec))
    assert main(["simulate", "--resume", "--output", str(runs.root), *words]) == 2
    assert said in capsys.readouterr().err
    monkeypatch.setattr(embedded, "resume", partial(embedded.resume, command=SUMMING))
    same = ["same.json", "--sites", "2", "--input", str(runs.inputs), "--engine", "process"]
    assert main(["simulate", "--resume", "--output", str(runs.root), *same]) == 0
    assert json.loads((runs.root / "summary.json").read_text())["total"] == 44


def test_a_key_is_not_written_down(runs):
    for site in runs.spec:
        site["wandb"] = {"value": {"project": "p", "api_key": "s3cret"}}
    runs.start()
    assert Course(runs.root / "course").order().tasks[0]["wandb"] == {"project": "p"}
    assert "s3cret" not in (runs.root / "course" / "order.json").read_text()


# --- the real computation ------------------------------------------------------------------------------------------

CLI = Path(__file__).parents[2] / "computation" / "cli.py"


def prepared(root):
    for index in range(2):
        database(root / "input" / f"local{index}" / RUN / "site.db", seed=index)
    spec = {name: {"value": value} for name, value in {**SHORT, "epochs": 3}.items()}
    (root / "spec.json").write_text(json.dumps(spec))
    return root / "spec.json"


@pytest.mark.slow
def test_a_simulator_that_was_killed_goes_on_to_the_same_digest(tmp_path, monkeypatch, capsys):
    spec = prepared(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    broken, words = tmp_path / "broken", [sys.executable, CLI, "simulate"]
    whole = consortium(tmp_path / "whole", changes={"epochs": 3})
    theirs = whole.run()
    with subprocess.Popen([*words, spec, "--sites", "2", "--output", broken], stdout=subprocess.DEVNULL) as process:
        wait = threading.Event()
        while not list(broken.glob("course/checkpoint-00000004.bin")):
            assert process.poll() is None
            wait.wait(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (broken / "summary.json").exists()
    assert main(["simulate", "--resume", "--output", str(broken)]) == 0
    ours = json.loads((broken / "summary.json").read_text())
    assert ours["model_digest"] == theirs["model_digest"]
    assert ours["sites"] == theirs["sites"] and ours["dice"] == theirs["dice"] and ours["iterations"] == 9
    for client in NODES:
        one, other = Layout(broken).output(client), whole.folder("output", client)
        entries = [read(folder / "journal.jsonl") for folder in (one, other)]
        digests = [[item.digest for item in rounds(entry)] for entry in entries]
        assert digests[0] == digests[1] and len(digests[0]) == 6
        assert [n.text for n in notices(entries[0]) if n.kind != "journal"] == [n.text for n in notices(entries[1])]
        tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (one, other)]
        assert [line.split(",")[0] for line in tables[0]] == [line.split(",")[0] for line in tables[1]]
    capsys.readouterr()
