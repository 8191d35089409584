"""The three commands as real processes: to the finish, with a port that is taken, a killed leader, and no ghosts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from meshes import pictures

ROOT = Path(__file__).parents[3]
WAIT = 240
SMALL = ["--model", "simple-cnn", "--configuration", '{"side": 8, "hidden": 8, "classes": 3}', "--rate", "0.01"]


def free():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Started:
    def __init__(self, folder, name, *words):
        self.log = folder / f"{name}.log"
        command = [sys.executable, str(ROOT / "computation" / "cli.py"), "mesh", *words]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=self.log.open("wb"), stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        )  # fmt: skip

    def said(self, pattern):
        """Wait until it has said something; return what."""
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found
            if self.process.poll() is not None and not re.search(pattern, self.log.read_text(errors="replace")):
                break
            time.sleep(0.1)
        raise AssertionError(f"{pattern} was not said:\n{self.log.read_text(errors='replace')}")

    def ended(self):
        assert self.process.wait(WAIT) == 0, self.log.read_text(errors="replace")

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)


@contextmanager
def mesh(folder, providers):
    """Start a bootstrap node and so many providers; end them all at the end."""
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    nodes = {"bootstrap": Started(folder, "bootstrap", "bootstrap", "--port", str(port), "--lease", "3")}
    try:
        # The port is taken: another one, and that is said.
        at = nodes["bootstrap"].said(r"listens on tcp://127\.0\.0\.1:(\d+)")[1]
        assert at != str(port)
        assert f"port {port} is taken" in nodes["bootstrap"].log.read_text()
        contact = ["--bootstrap", f"bootstrap1@127.0.0.1:{at}"]
        for name in providers:
            words = ["provider", "--name", name, "--take-data", "--port", str(free()), *contact]
            nodes[name] = Started(folder, name, *words)
        for name in providers:
            nodes[name].said(rf"provider {name} listens")
        yield nodes, contact
    finally:
        taken.close()
        for node in nodes.values():
            if node.process.poll() is None:
                node.kill()
            node.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_start_to_finish_a_race_a_killed_leader_and_no_ghosts(tmp_path):
    pictures(tmp_path / "data", train=512)
    with mesh(tmp_path, ["provider1", "provider2"]) as (nodes, contact):
        asked = ["--data", "data", "--share-data", "--port", str(free()), *contact]
        words = ["requester", "--output", "task", "--providers", "2", "--strict", *SMALL, *asked]
        first = Started(tmp_path, "requester", *words, "--epochs", "20", "--aggregations", "8", "--detach")
        first.ended()
        leader = json.loads((tmp_path / "task" / "task.json").read_text())["workers"][0][0]
        nodes[leader].kill()
        follower = next(name for name in ("provider1", "provider2") if name != leader)
        # The follower is taken: another requester looks on.
        late = ["requester", "--name", "late", "--output", "late", *SMALL, *asked, "--epochs", "1"]
        other = Started(tmp_path, "late", *late)
        time.sleep(3)
        other.kill()
        other.process.wait()
        assert not (tmp_path / "late" / "task.json").exists()
        # The follower leads on, and its result can be come back for.
        back = Started(tmp_path, "back", "requester", "--output", "task", *asked, "--resume")
        back.said(r"accuracy: \d")
        back.ended()
        assert json.loads((tmp_path / "task" / "metrics.json").read_text())["accuracy"] > 0.5
        # The killed one is no ghost: a third requester finds the follower alone.
        third = Started(tmp_path, "third", "requester", "--name", "third", "--output", "third", *SMALL, *asked,
                        "--epochs", "1", "--providers", "2")  # fmt: skip
        third.said("2 providers were wanted and 1 take the task")
        third.ended()
        nodes[follower].kill(signal.SIGTERM)
        nodes[follower].ended()


def test_without_data_or_consent_and_with_a_port_that_is_none_the_command_says_what_it_wants(tmp_path):
    pictures(tmp_path / "data")
    for words, text in (
        (["bootstrap", "--port", "70000"], "port is 70000"),
        (["requester"], "there are no data"),
        (["requester", "--data", "data"], "the owner did not agree"),
    ):
        one = Started(tmp_path, "one", *words)
        one.said(text)
        assert one.process.wait(WAIT) == 2
