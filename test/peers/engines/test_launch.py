"""The launcher with small programs: what they find, how they end, and that nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from computation.errors import PeersError
from peers.engines.launch import launch

ROOT = Path(__file__).parents[3]
TWO = """import sys
from pathlib import Path
from peers.engines.launch import launch
launch(dict.fromkeys("ab", ["sh", "-c", sys.argv[1]]), Path(sys.argv[2]))
"""


def sh(text):
    return ["sh", "-c", text]


def gone(file):
    """Whether the process whose number is in a file has gone."""
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{file.read_text().strip()}/stat").read_text().rsplit(")")[1].split()[0] == "Z"


def test_each_finds_what_torchrun_sets_and_has_a_log(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    told = []
    ended = launch(
        {name: [sys.executable, "-S", "-c", code] for name in ("b", "a")}, tmp_path / "new" / "logs", told=told.append
    )
    assert sorted(one.name for one in ended) == ["a", "b"]
    assert tuple(told) == ended
    assert all(one.well and one.log == tmp_path / "new" / "logs" / f"{one.name}.log" for one in ended)
    seen = {one.name: json.loads(one.log.read_text()) for one in ended}
    assert [seen[name]["RANK"] for name in ("a", "b")] == ["0", "1"]
    assert {seen["a"][name] for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")} == {"2"}
    assert seen["a"]["MASTER_PORT"] == seen["b"]["MASTER_PORT"]
    assert seen["a"]["TORCHELASTIC_USE_AGENT_STORE"] == "True"
    assert int(seen["a"]["OMP_NUM_THREADS"]) == max(os.cpu_count() // 2, 1)


def test_threads_that_somebody_chose_are_left(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    launch({"a": sh("echo $OMP_NUM_THREADS")}, tmp_path)
    assert (tmp_path / "a.log").read_text() == "7\n"


@pytest.mark.parametrize(
    ("end", "words"), [("exit 3", "a ended with status 3 after"), ("kill -9 $$", "a was killed by SIGKILL after")]
)
def test_all_for_one_names_the_first_and_ends_the_others(tmp_path, end, words):
    other = f"trap '' TERM; echo $$ > {tmp_path}/other; sleep 60 & echo $! > {tmp_path}/its; wait; sleep 60"
    began = time.monotonic()
    first = f"while [ ! -s {tmp_path}/its ]; do sleep 0.01; done; {end}"
    with pytest.raises(PeersError, match=words):
        launch({"a": sh(first), "b": sh(other)}, tmp_path, patience=0.5)
    assert time.monotonic() - began < 30
    until(lambda: gone(tmp_path / "other") and gone(tmp_path / "its"), 20)  # killed is not gone at once


def test_the_others_have_time_to_end_by_themselves(tmp_path):
    with pytest.raises(PeersError, match="a ended with status 1"):
        launch({"a": sh("exit 1"), "b": sh("sleep 0.5; echo whole")}, tmp_path, patience=20)
    assert (tmp_path / "b.log").read_text() == "whole\n"


def test_each_for_itself_says_who_ended_how(tmp_path):
    ended = launch({"a": sh("exit 3"), "b": sh("sleep 0.5")}, tmp_path, one_for_all=False)
    assert [(one.name, one.status, one.well) for one in ended] == [("a", 3, False), ("b", 0, True)]
    assert str(ended[0]).startswith("a ended with status 3 after 0.")


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(PeersError, match="the command of peer b cannot be started"):
        launch({"a": sh(f"echo $$ > {tmp_path}/a; sleep 60"), "b": ["/no/such/program"]}, tmp_path, patience=5)
    assert not (tmp_path / "a").exists() or gone(tmp_path / "a")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_who_ends_the_launcher_ends_all(tmp_path, number, status):
    peer = f"trap 'echo asked; exit 0' TERM INT; echo $$ > {tmp_path}/$RANK; while :; do sleep 0.05; done"
    command = [sys.executable, "-c", TWO, peer, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        while not all((tmp_path / rank).exists() for rank in "01"):
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == status
    assert all(gone(tmp_path / rank) for rank in "01")
    assert all("asked" in (tmp_path / f"{name}.log").read_text() for name in "ab")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone kills the children of who was killed")
def test_a_launcher_that_is_killed_leaves_nobody(tmp_path):
    peer = f"echo $$ > {tmp_path}/$RANK; exec sleep 60"
    with subprocess.Popen([sys.executable, "-c", TWO, peer, str(tmp_path)], cwd=ROOT) as process:
        while not all((tmp_path / rank).exists() for rank in "01"):
            time.sleep(0.02)
        process.kill()
    limit = time.monotonic() + 20
    while not all(gone(tmp_path / rank) for rank in "01"):
        assert time.monotonic() < limit
        time.sleep(0.02)
