"""Who opens a connection and says nothing, or half of a request, does not keep it; who asks is not hurried."""

import asyncio
import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

import uvicorn

from service.heads import Heads

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Hurried(Heads):
    patience = 0.3


async def app(scope, receive, send):
    """Answer after longer than a head may take."""
    assert scope["type"] == "http"
    await asyncio.sleep(2 * Hurried.patience)
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port():
    config = uvicorn.Config(app, port=0, http=Hurried, lifespan="off", log_level="error", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)


def answered(connection):
    """Tell whether one answer comes."""
    came = b""
    while not came.endswith(b"ok") and (piece := connection.recv(65_536)):
        came += piece
    return came.startswith(b"HTTP/1.1 200 ")


def whole(connection):
    """Return what comes until the server hangs up."""
    came = b""
    while piece := connection.recv(65_536):
        came += piece
    return came


@pytest.mark.parametrize("begun", [b"", b"G", ASKED[:-2]])
def test_a_head_that_does_not_end_ends_its_connection(port, begun):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(begun)
        assert whole(connection) == b""


def test_bytes_that_trickle_gain_no_time(port):
    with socket.create_connection(("127.0.0.1", port), 20) as connection, pytest.raises(OSError):
        for letter in ASKED[:-1] * 100:
            connection.sendall(bytes([letter]))
            time.sleep(0.05)


def test_the_next_head_on_a_connection_has_to_end_too(port):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(ASKED)
        assert answered(connection)
        connection.sendall(ASKED[:9])
        assert whole(connection) == b""


def test_who_has_asked_is_waited_for_and_may_ask_again(port):
    """Answers, bodies and the time between two requests have patiences of their own."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for _ in range(2):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
            time.sleep(2 * Hurried.patience)
            connection.sendall(b"b")
            assert answered(connection)
            time.sleep(2 * Hurried.patience)
