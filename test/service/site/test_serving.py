"""`serve --site` as people start it: on this machine alone, and whatever it has begun ends with it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import waiting
from clinics import table
from houses import SOUND
from offices import fields_of, stamp_of

from computation import cli
from computation.isolation import variables
from service.place import Place


@pytest.fixture
def root(tmp_path):
    table(tmp_path / "root", 3)
    Place(tmp_path / "data").accounts().first_administrator("ada", SOUND)
    return tmp_path / "root"


def serving(folder, root, *more):
    command = [sys.executable, str(Path(cli.__file__).resolve()), "serve", "--site", str(root), "--port", "0"]
    environment = {**os.environ, **variables(), "OMP_NUM_THREADS": "1"}
    words = [*command, "--data", str(folder / "data"), *more]
    own = {"cwd": folder, "start_new_session": True}  # a group of its own, as a terminal gives one
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, **own)
    return process, process.stdout.readline().split()[-1]


def entered(url):
    client = httpx.Client(base_url=url, trust_env=False, timeout=60)
    held = stamp_of(client.get("/login").text)
    assert client.post("/login", data={"stamp": held, "name": "ada", "password": SOUND}).status_code == 303
    return client


def children(pid):
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_was_begun_ends_with_the_pages_and_is_told_when_they_are_back(tmp_path, root, number):
    process, url = serving(tmp_path, root)
    client = entered(url)
    page = client.get("/import?at=table.csv").text
    form = {name: value for name, value in fields_of(page).items() if name}
    assert client.post("/import?at=table.csv", data=form).headers["location"] == "/work"
    working = waiting.until(lambda: children(process.pid), seconds=60)
    assert len(working) == 1
    os.killpg(process.pid, number)
    process.wait(60)
    assert waiting.until(lambda: not Path(f"/proc/{working[0]}").exists(), seconds=60)
    assert not (root / "site.db").exists()
    process, url = serving(tmp_path, root)
    try:
        assert "These pages ended while it was under way" in entered(url).get("/work").text
    finally:
        process.terminate()
        process.wait(60)
    log = (tmp_path / "data" / "service.log").read_text()
    assert "table.csv" not in log and str(root) not in log and "route=/import" in log
    for path in (tmp_path / "data").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir()


@pytest.mark.parametrize(
    "more", [("--host", "0.0.0.0"), ("--host", "::"), ("--behind-proxy", "127.0.0.1"), ("--tls-key", "x")]
)
def test_a_sites_pages_are_for_its_machine_alone(tmp_path, root, capsys, more):
    given = ["serve", "--site", str(root), "--data", str(tmp_path / "data"), "--port", "0", *more]
    assert cli.main(given) == 2
    assert "its own machine alone" in capsys.readouterr().err


def test_a_root_that_is_none_is_told(tmp_path, capsys):
    given = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--site"]
    assert cli.main([*given, str(tmp_path / "no")]) == 2
    assert "--site is no folder" in capsys.readouterr().err


def test_it_listens_on_loopback(tmp_path, root):
    process, url = serving(tmp_path, root)
    port = int(url.rpartition(":")[2])
    try:
        assert url.startswith("http://127.0.0.1:")
        with socket.socket() as other, pytest.raises(OSError):
            other.settimeout(2)
            other.connect((socket.gethostbyname(socket.gethostname()) if _named() else "127.0.0.2", port))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _named():
    """Tell whether this machine has an address beside loopback."""
    try:
        return not socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        return False
