"""What a person reads of a run: on a terminal, in a file, where there is no UTF-8, and of what must not be hidden."""

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from consortium import SHORT, database
from rich.console import Console

from computation.cli import main
from computation.errors import SimulatorError
from computation.tracking import RoundNumbers, Tracker
from simulator import progress
from simulator.layout import CENTRE, RUN, Layout
from simulator.notes import notes
from simulator.progress import LiveProgress, PlainProgress
from simulator.result import Cycle

pytestmark = pytest.mark.timeout(200)
ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, str(ROOT / "computation" / "cli.py")]
CYCLES = [Cycle(number, 1.0, 1, 1, 1, 1) for number in (1, 2, 3)]
PLAN = {"phase": "plan", "rounds": 8, "notes": ["grid differs: 32 x 32 x 32 at local0, 48 x 48 x 48 at local1"]}
SKIPPED = {"phase": "train", "round": 1, "loss": 0.25, "skipped": {"local1": "unreadable"}}


def follow(shown):
    shown.on_cycle(CYCLES[0], PLAN)
    for round, cycle in enumerate(CYCLES[1:], 1):
        shown.on_call("local0", cycle.iteration)
        shown.on_reply("local0", cycle.iteration, {})
        shown.on_cycle(cycle, {**SKIPPED, "round": round})


@pytest.mark.parametrize("terminal", [True, False])
def test_what_differs_and_who_does_not_count_is_told_at_once_and_once(terminal):
    console = Console(record=True, width=300, force_terminal=terminal)
    with (LiveProgress if terminal else PlainProgress)(console) as shown:
        follow(shown)
    text = console.export_text()
    assert text.count(f"note: {PLAN['notes'][0]}") == 1
    assert (
        text.count("round 1: local1 did not count: no scan of the batch, or too few of all scans, could be read") == 1
    )
    assert "round 2: local1" not in text


def test_a_pipe_gets_a_line_each_few_seconds_while_there_is_news(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.02)
    console, lines = Console(record=True, width=300, force_terminal=False), threading.Event()
    plain = console.print

    def count(text, **options):
        plain(text, **options)
        if "loss 0.25" in str(text):
            lines.set()

    monkeypatch.setattr(console, "print", count)
    with PlainProgress(console) as shown:
        follow(shown)
        assert lines.wait(20)
        threading.Event().wait(0.1)
    said = [line for line in console.export_text().splitlines() if "loss" in line]
    assert len(said) == 1 and said[0].endswith("s · 2/8 · train · loss 0.25")


def test_a_pipe_hears_of_a_long_wait_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.005)
    console = Console(record=True, width=300, force_terminal=False)
    with PlainProgress(console) as shown:
        shown.on_call("local1", 3)
        threading.Event().wait(0.5)
    said = [line for line in console.export_text().splitlines() if "waiting for local1" in line]
    assert 2 <= len(said) <= 10


def numbers(round, **options):
    return RoundNumbers(round, "ab", sites=2, **options)


def test_the_notes_are_those_of_all_pages_and_of_absences(tmp_path):
    layout = Layout(tmp_path)
    with Tracker(layout.output(CENTRE), stream=open(os.devnull, "w")) as centre:  # noqa: PTH123
        centre.begin(run="r", rounds=2, classes=("b", "w"))
        centre.notice("difference", "axes differs: LIA at local0, RAS at local1")
        for round in (1, 2):
            centre.round(numbers(round, counted=("local0",), skipped={"local1": "unreadable"}))
        centre.round(numbers(3, counted=(), void=True, skipped={"local0": "failed", "local1": "unreadable"}))
    for site, times in (("local0", 1), ("local1", 3)):
        with Tracker(layout.output(site)) as tracker:
            tracker.notice("difference", "axes differs: LIA at local0, RAS at local1")
            for _ in range(times):
                tracker.notice("skipped", f"a round was skipped at {site}")
    assert notes(layout, ["local0", "local1"]) == [
        "local0 counted in 2 of 3 rounds only: an unexpected error, described in the site's own log (1)",
        "local1 counted in no round: no scan of the batch, or too few of all scans, could be read (3)",
        "centre, local0, local1: axes differs: LIA at local0, RAS at local1",
        "local0: a round was skipped at local0",
        "local1: a round was skipped at local1 (3 times)",
    ]


# --- the command line itself ---------------------------------------------------------------------------------------


def prepared(root, sites=2, **changes):
    for index in range(sites):
        database(root / "input" / f"local{index}" / RUN / "site.db", seed=index)
    spec = {name: {"value": value} for name, value in {**SHORT, "epochs": 1, **changes}.items()}
    (root / "spec.json").write_text(json.dumps([spec]))
    return root / "spec.json"


def simulate(*words):
    return main(["simulate", *map(str, words)])


def test_one_entry_more_sites_a_surplus_folder_and_brackets_in_a_path(tmp_path, capsys):
    spec = prepared(tmp_path, sites=3)
    assert simulate(spec, "--sites", 2, "--output", tmp_path / "[red]run") == 0
    out = capsys.readouterr().out
    assert "local2 takes no part: the run has 2 sites" in out
    assert f"summary: {tmp_path}/[red]run/summary.json" in out
    assert set(json.loads((tmp_path / "[red]run" / "summary.json").read_text())["sites"]) == {"local0", "local1"}


def test_a_deadline_ends_the_training_with_the_model_it_has(tmp_path, capsys):
    spec = prepared(tmp_path, sites=1, epochs=100_000, validate_every=100_000)
    assert simulate(spec, "--output", tmp_path / "run", "--deadline", "1") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 1 <= summary["rounds"] < 200_000 and summary["stopped"] == (
        "the time that setting 'deadline' gives the training was over"
    )
    assert (Layout(tmp_path / "run").output("local0") / "model" / "best.json").is_file()
    assert f"after round {summary['rounds']}: {summary['stopped']}" in " ".join(capsys.readouterr().out.split())


def test_a_run_starts_from_an_earlier_one_in_the_same_folder(tmp_path, capsys):
    spec = prepared(tmp_path, sites=1)
    assert simulate(spec, "--output", tmp_path / "run", "--sites", 1) == 0
    first = Layout(tmp_path / "run").output("local0")
    digest = json.loads((first / "model" / "best.json").read_text())["digest"]
    assert simulate(spec, "--output", tmp_path / "run", "--sites", 1, "--initial-model", first) == 0
    page = (Layout(tmp_path / "run").output(CENTRE) / "journal.jsonl").read_text()
    assert f'"model": "{digest}"' in page
    words = [word for name, value in SHORT.items() if name != "data" for word in ("--setting", f"{name}={value}")]
    db, alone = tmp_path / "input" / "local0" / RUN / "site.db", tmp_path / "alone"
    model = tmp_path / "run" / "earlier-runs" / "0001" / "output" / "local0" / RUN
    assert main(["train", str(db), "--output", str(alone), "--initial-model", str(model), *words]) == 0
    assert f'"model": "{digest}"' in (Layout(alone).output(CENTRE) / "journal.jsonl").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shuffle", "-1"], "wanted a whole number from 0 up"),
        (["--shuffle", "\x1b[2J"], "wanted a whole number from 0 up, found '\\\\x1b"),
        (["--sites", "0"], "wanted a whole number from 1 up"),
        (["--sites", "99999"], "from 1 to 1000 sites"),
        (["--deadline", "yesterday"], "--deadline is 'yesterday'; wanted seconds"),
        (["--deadline", "2001-01-01T00:00"], "wanted seconds"),
        (["--deadline", "nan"], "wanted seconds"),
        (["--initial-model", "nowhere.json"], "model file cannot be read"),
        (["--resume"], "no run to go on with"),
    ],
)
def test_odd_words_are_one_clear_line(tmp_path, capsys, words, said):
    spec = prepared(tmp_path, sites=1)
    try:
        status = simulate(spec, "--output", tmp_path / "run", *words)
    except SystemExit as error:
        status = error.code
    assert status == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, capsys):
    spec = prepared(tmp_path, sites=1)
    (tmp_path / "run").mkdir(mode=0o555)
    assert simulate(spec, "--output", tmp_path / "run") == 2
    assert "output folder is full or may not be written" in capsys.readouterr().err


def test_a_folder_that_vanishes_is_one_clear_line(tmp_path, monkeypatch):
    def vanish(self, sites):
        raise FileNotFoundError("gone")

    (tmp_path / "inputs" / "local0" / RUN).mkdir(parents=True)
    monkeypatch.setattr(Layout, "_make", vanish)
    with pytest.raises(SimulatorError, match="output folder is full or may not be written"):
        Layout(tmp_path / "run").prepare(["local0"], tmp_path / "inputs")


def test_a_demo_that_cannot_write_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file")]) == 2
    said = capsys.readouterr()
    assert "building the two demo sites" in said.out and "output folder is full or may not be written" in said.err


NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TERM": "xterm"}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_succeeds_where_there_is_no_utf8(tmp_path, terminal):
    """A spinner, a dash, or a letter of a path or a class name that cannot be shown ends nothing."""
    home = tmp_path / "Prüf — 脳"
    names = ("background", "weiße Substanz", "graue — Substanz")
    spec = prepared(home, sites=1, classes=list(names))
    path = home / "input" / "local0" / RUN / "site.db"
    path.unlink()
    database(path, names=names)
    command = [*CLI, "simulate", str(spec), "--sites", "1", "--output", str(home / "Lauf")]
    environment = {**os.environ, **NO_UTF8}
    if terminal:
        ours, theirs = pty.openpty()
        with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            said = read_all(ours)
        status = process.returncode
    else:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=150, check=False)
        status, said = done.returncode, done.stdout + done.stderr
    assert status == 0 and b"Traceback" not in said and said.isascii()
    assert json.loads((home / "Lauf" / "summary.json").read_text())["rounds"] == 2


def test_folders_and_files_whose_names_are_no_text_are_used_all_the_same(tmp_path):
    """Such as those of an archive that was packed where letters were Latin-1."""
    home = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Pr\xfcf"))
    home.mkdir()
    db = database(tmp_path / "green.db").rename(home / os.fsdecode(b"gr\xfcn.db"))
    words = [word for name, value in SHORT.items() if name != "data" for word in ("--setting", f"{name}={value}")]
    command = [*CLI, "train", str(db), "--output", str(home / "run"), *words]
    done = subprocess.run(command, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Pr\\xfcf" in done.stdout
    assert json.loads((home / "run" / "summary.json").read_text())["rounds"] == 4


def read_all(handle):
    """Return what a terminal showed, until the other end closes it."""
    said = b""
    while True:
        try:
            piece = os.read(handle, 65536)
        except OSError:
            return said
        if not piece:
            return said
        said += piece
