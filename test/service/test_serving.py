import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

import httpx

from service.place import Place
from service.serving import Wanted, _listening

ROOT = Path(__file__).parents[2]


def test_answers_go_out_at_once(tmp_path):
    """What is not named TCP gets no TCP_NODELAY from asyncio, and each answer waits for the other side's ACK."""
    with _listening(Wanted(tmp_path, port=0)) as door:
        assert door.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("site", [False, True])
def test_who_serves_is_told_how_the_first_account_is_made_until_there_is_one(tmp_path, site):
    data = tmp_path / "a folder"
    more = ["--site", str(tmp_path)] if site else []
    with serving(data, *more) as (url, process):
        command = f"coinstac-meshnet service admin NAME --data '{data}'"
        assert process.stdout.readline() == f"nobody can log in yet; in another terminal: {command}\n"
        page = httpx.get(f"{url}/login", trust_env=False).text
        assert "Nobody can log in yet." in page and str(data) not in page
        Place(data).accounts().first_administrator("ada", "a long password of the tests")
        assert "Nobody can log in yet." not in httpx.get(f"{url}/login", trust_env=False).text
    with serving(data, *more) as (_, process):
        process.terminate()
        assert process.stdout.read() == ""


@contextmanager
def serving(data, *more):
    """Lend a service's URL and its process."""
    words = [sys.executable, "-m", "computation.cli", "serve", "--port", "0", "--data", str(data), *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()
