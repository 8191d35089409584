"""Who listens hears who rings, in this process and in others, and whoever was killed is forgotten."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service.bell import Bell

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["one process", "folder", "deep folder"])
def bell(request, tmp_path):
    deep = tmp_path / ("x" * 120) / "bells"
    return Bell({"one process": None, "folder": tmp_path / "bells", "deep folder": deep}[request.param])


def test_every_listener_hears_every_ring(bell):
    one, other = bell.listen(), bell.listen()
    assert not one.wait(0)
    bell("run-1")
    bell("run-2")
    bell("run-2")
    assert one.wait(5) == other.wait(5) == {"run-1", "run-2"}
    assert not one.heard()
    one.close()
    bell("run-3")
    assert other.wait(5) == {"run-3"}
    other.close()
    bell("run-4")


def test_a_ring_ends_a_wait(bell):
    listener = bell.listen()
    threading.Timer(0.05, bell, ["run"]).start()
    assert listener.wait(60) == {"run"}
    listener.close()


def test_rings_that_nobody_reads_hold_nobody_up(bell):
    listener = bell.listen()
    for number in range(3000):
        bell(f"run-{number}")
    assert listener.heard()
    listener.close()


def test_another_process_is_heard_and_one_that_was_killed_is_swept_away(tmp_path):
    folder = tmp_path / "bells"
    code = (
        "import sys; from pathlib import Path; from service.bell import Bell\n"
        "bell = Bell(Path(sys.argv[1])); listener = bell.listen(); bell('here'); print(listener.wait(30), flush=True)\n"
        "print(sorted(listener.wait(30)), flush=True); listener.wait(60)"
    )
    bell = Bell(folder)
    own = bell.listen()
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert own.wait(30) == {"here"} and "here" in child.stdout.readline()
    bell("there")
    assert child.stdout.readline() == "['there']\n" and own.wait(5) == {"there"}
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert len(list(folder.iterdir())) == 2
    bell("gone")
    assert len(list(folder.iterdir())) == 1
    own.close()
    assert not list(folder.iterdir())


def test_a_folder_that_is_gone_stops_nobody(tmp_path):
    folder = tmp_path / "bells"
    bell = Bell(folder)
    (folder / "a file").write_text("x")
    bell("run")
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    bell("run")
    listener = bell.listen()
    begun = time.monotonic()
    bell("run")
    assert listener.wait(5) == {"run"} and time.monotonic() - begun < 60
    listener.close()


def test_what_is_for_workers_wakes_nobody_else_and_what_they_did_not_them(bell):
    waits, works = bell.listen(), bell.listen(works=True)
    bell.work("a")
    assert works.wait(5.0) == {"a"}
    assert waits.heard() == frozenset()
    bell.news("a")
    assert waits.wait(5.0) == {"a"}
    assert works.heard() == frozenset()
    bell("b")
    assert (waits.wait(5.0), works.wait(5.0)) == ({"b"}, {"b"})
    waits.close()
    works.close()
