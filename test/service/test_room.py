"""More connections than there is room for: the log says so once, and who comes later is let in."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

ROOT = Path(__file__).parents[2]
#: A server in a process of its own, which may have few files open.
FEW = """
import logging, resource, sys, uvicorn
sys.path.insert(0, sys.argv[1])
from service.room import Server
logging.basicConfig(stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False, backlog=2048)
server = Server(config)
door = config.bind_socket()
print(door.getsockname()[1], flush=True)
server.run(sockets=[door])
"""


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 3) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def few():
    """Lend such a server's process and its port."""
    words = [sys.executable, "-c", FEW, str(ROOT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            port, patience = int(process.stdout.readline()), time.monotonic() + 60
            while not answers(port):
                assert time.monotonic() < patience
            yield process, port
        finally:
            process.kill()


def test_a_crowd_is_a_line_in_the_log_and_whoever_comes_after_it_is_let_in():
    with few() as (process, port):
        crowd = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(60)]
        assert not answers(port)
        for one in crowd:
            one.close()
        patience = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < patience
        process.terminate()
        said = process.stdout.read().splitlines()
    assert len(said) == 1 and "no more connections can be taken (Too many open files)" in said[0], said[:20]


def test_a_service_takes_all_the_room_that_the_system_gives():
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (100, 200)); from service.room import make_room; "
        "make_room(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "(200, 200)", done.stderr
