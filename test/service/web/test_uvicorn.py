"""Over a real server and real connections: senders that announce too much, go, or speak no HTTP."""

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest
import uvicorn
import waiting

#: Nothing here depends on the store.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def server(house):
    config = uvicorn.Config(house.app, port=0, access_log=False, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server, thread
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def served(server):
    return server[0].servers[0].sockets[0].getsockname()[1]


@pytest.fixture
def run(house):
    carl = house.client("carl")
    made = carl.post("/v1/runs", house.spec()).json()["id"]
    carl.post(f"/v1/runs/{made}/invite")
    return made


def sent(port, text, seconds=30):
    """Send bytes and return all that comes until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(text)
        came = b""
        while piece := connection.recv(65_536):
            came += piece
        return came


def head(house, method, path, *more, name="carl"):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {house.tokens[name]}", *more, "", ""]
    return "\r\n".join(lines).encode()


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(house, served):
    request = head(house, "POST", "/v1/runs", "Content-Type: application/json", "Content-Length: 10000000000")
    came = sent(served, request)
    assert came.startswith(b"HTTP/1.1 413") and b"connection: close" in came.lower()


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00", b"x" * 100_000, b"GET /\0 HTTP/1.1\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n0\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"
        b"Connection: close\r\n\r\n",
    ],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_next_one_is_served(house, served, text):
    assert sent(served, text)[9:12] in (b"400", b"401")
    assert httpx.get(f"http://127.0.0.1:{served}/healthz").json() == {"status": "ok"}


def waits(house, count):
    """Tell whether so many wait, in less than what they wait for, which would end by itself."""
    return waiting.until(lambda: house.app.state.waiting._count == count, seconds=15)


@pytest.mark.parametrize("path", ["rounds/0/result?wait=25", "events/stream"])
def test_who_goes_while_waiting_is_not_waited_for(house, served, run, path):
    connections = []
    for _ in range(5):
        connections.append(socket.create_connection(("127.0.0.1", served), 30))
        connections[-1].sendall(head(house, "GET", f"/v1/runs/{run}/{path}", name="north"))
    assert waits(house, 5)
    for connection in connections:
        connection.close()
    assert waits(house, 0)


@pytest.mark.parametrize("path", ["rounds/0/result?wait=25", "events/stream"])
def test_a_server_that_ends_does_not_wait_for_those_who_wait(house, server, served, run, path):
    with socket.create_connection(("127.0.0.1", served), 30) as connection:
        connection.sendall(head(house, "GET", f"/v1/runs/{run}/{path}", name="north"))
        assert waits(house, 1)
        ending, thread = server
        ending.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
    assert waits(house, 0)


def test_many_sites_are_served_at_once(house, served, run):
    async def course():
        headers = {"Authorization": f"Bearer {house.tokens['north']}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served}", headers=headers, timeout=60) as client:
            body = json.dumps({"status": "training"})
            kind = {"Content-Type": "application/json"}
            beats = [client.post(f"/v1/runs/{run}/heartbeat", content=body, headers=kind) for _ in range(100)]
            looks = [client.get(f"/v1/runs/{run}/round") for _ in range(100)]
            return {answer.status_code for answer in await asyncio.gather(*beats, *looks)}

    assert asyncio.run(course()) == {200}
