"""The COINSTAC service: every failure is a reply, nothing of the site is in it, and nothing hangs."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.sync.client import connect as connect_sync
from websockets.uri import parse_uri

from computation.coinstac import admission, server
from computation.coinstac.server import Responder
from computation.errors import ContributionError
from simulator.process import Reservation, environment

pytestmark = pytest.mark.timeout(60)
SUMMING = Path(__file__).parents[1] / "simulator" / "summing.py"
SECRET = "subject-0042 in /data/hospital"


def request(mode="local", folder="/nowhere", **inputs):
    data = {"input": inputs, "cache": {}, "state": {"iteration": 3, "outputDirectory": str(folder)}}
    return json.dumps({"mode": mode, "data": data})


def answer(handler, text=None):
    return json.loads(Responder(lambda mode: handler)(request() if text is None else text), parse_constant=pytest.fail)


def refused(reply):
    """Return the text of an error reply; it must be one that ends the platform's wait, and one line."""
    assert {"type": "stderr", "code": 1, "end": True}.items() <= reply.items()
    assert reply["data"] and "\n" not in reply["data"] and len(reply["data"]) <= 600
    return reply["data"]


def raising(error):
    def handler(data):
        raise error

    return handler


# --- the reply -------------------------------------------------------------------------------------------------------


def test_a_result_is_passed_on():
    result = {"output": {"n": 1}, "cache": {"a": 2}, "success": True}
    assert answer(lambda data: result, request("remote")) == {"type": "stdout", "data": result, "end": True}


def test_numpy_scalars_are_converted():
    output = {"f": np.float32(0.5), "i": np.int64(7), "d": np.float64(0.25)}
    assert answer(lambda data: {"output": output})["data"]["output"] == {"f": 0.5, "i": 7, "d": 0.25}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.zeros(3), {1, 2}, b"bytes", object()]
)
def test_what_json_cannot_carry_is_refused(value):
    assert "JSON cannot carry" in refused(answer(lambda data: {"output": {"deep": [{"loss": value}]}}))


@pytest.mark.parametrize("result", [None, "text", [], {}, {"output": None}, {"output": "{}"}, {"output": []}])
def test_a_result_without_an_output_object_is_refused(result):
    assert "no output" in refused(answer(lambda data: result))


def test_an_empty_output_is_fine():
    assert answer(lambda data: {"output": {}})["type"] == "stdout"


def test_a_cache_that_is_no_object_is_refused():
    assert "cache" in refused(answer(lambda data: {"output": {}, "cache": [1]}))


def test_a_site_must_not_end_the_run():
    assert "only the centre" in refused(answer(lambda data: {"output": {}, "success": True}))


def test_an_oversize_reply_is_refused(monkeypatch):
    monkeypatch.setattr(server, "REPLY_LIMIT", 1000)
    assert "1000" in refused(answer(lambda data: {"output": {"text": "x" * 1000}}))


# --- the request -----------------------------------------------------------------------------------------------------

STATE = {"input": {}, "cache": {}, "state": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b'{"mode": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5_000, "not JSON"),
        (b"[]", "list"),
        (b"null", "NoneType"),
        (json.dumps({"data": STATE}), "mode is unknown"),
        (json.dumps({"mode": "owner", "data": STATE}), "mode is unknown"),
        (json.dumps({"mode": ["local"], "data": STATE}), "mode is unknown"),
        (json.dumps({"mode": "local"}), "no data"),
        (json.dumps({"mode": "local", "data": {**STATE, "state": None}}), "no state"),
        (json.dumps({"mode": "local", "data": {"state": {}}}), "no input and no cache"),
    ],
)
def test_a_bad_request_gets_a_named_error(text, said):
    assert said in refused(answer(lambda data: pytest.fail("called"), text))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["mode", "data", "input", "cache", "state"]), inner)
    ),
)


@settings(deadline=None)
@given(st.binary() | JSON.map(json.dumps))
def test_any_request_gets_a_reply(text):
    assert answer(lambda data: {"output": {}}, text)["end"] is True


STRANGERS = ["clientId", "baseDirectory", "outputDirectory", "transferDirectory", "cacheDirectory"]


@pytest.mark.parametrize("changed", [*STRANGERS, "mode", "missing"])
def test_a_process_serves_one_node_and_its_folders(tmp_path, changed):
    """Another's output folder is not even written to with the reason of the refusal."""
    asked = []
    respond = Responder(lambda mode: lambda data: asked.append(data["state"]) or {"output": {}})
    for name in ("own", "others"):
        (tmp_path / name).mkdir()
    state = {"iteration": 1, **{name: str(tmp_path / "own") for name in STRANGERS}}
    other = {**state, "iteration": 2, **({changed: str(tmp_path / "others")} if changed in STRANGERS else {})}
    if changed == "missing":
        del other["outputDirectory"]
    modes = ("local", "remote" if changed == "mode" else "local")
    first, second = (
        json.loads(respond(json.dumps({"mode": mode, "data": {**STATE, "state": one}})))
        for mode, one in zip(modes, (state, other), strict=True)
    )
    assert first["type"] == "stdout" and "another node, or other folders" in refused(second)
    assert asked == [state] and not list((tmp_path / "others").iterdir())
    assert "other folders" in (tmp_path / "own" / "error.log").read_text()
    third = {**state, "iteration": 2}
    assert json.loads(respond(json.dumps({"mode": "local", "data": {**STATE, "state": third}})))["type"] == "stdout"


def test_errors_without_end_do_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_LONGEST_LOG", 2000)
    respond = Responder(lambda mode: raising(ValueError("x" * 500)))
    for _ in range(20):
        respond(request(folder=tmp_path))
    assert 2000 <= (tmp_path / "error.log").stat().st_size < 6000


# --- what leaves the site --------------------------------------------------------------------------------------------


def test_an_unexpected_error_leaves_only_its_class_and_place(tmp_path):
    line = refused(answer(raising(ValueError(SECRET)), request(folder=tmp_path, phase="train")))
    assert "ValueError" in line and "iteration 3" in line and "phase train" in line
    assert SECRET not in line and str(tmp_path) not in line
    record = (tmp_path / "error.log").read_text()
    assert SECRET in record and "Traceback" in record and "test_server.py" in record


def test_a_named_error_leaves_its_public_half(tmp_path):
    line = refused(answer(raising(ContributionError("the loss\nis not finite", SECRET)), request(folder=tmp_path)))
    assert "the loss is not finite" in line and SECRET not in line
    assert SECRET in (tmp_path / "error.log").read_text()


def test_errors_are_added_to_the_log(tmp_path):
    respond = Responder(lambda mode: raising(KeyError("x")))
    respond(request(folder=tmp_path))
    respond(b"not JSON")  # names no folder, so the last call's is used
    assert (tmp_path / "error.log").read_text().count("Traceback") >= 2


@pytest.mark.parametrize("folder", ["/nowhere/at/all", "\0", 7, None])
def test_a_log_that_cannot_be_written_does_not_matter(folder):
    text = json.dumps({"mode": "local", "data": {**STATE, "state": {"outputDirectory": folder}}})
    assert "ValueError" in refused(answer(raising(ValueError("x")), text))


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), MemoryError(), RecursionError()])
def test_no_exception_ends_the_worker(error):
    assert type(error).__name__ in refused(answer(raising(error)))


@pytest.mark.parametrize("phase", [SECRET, "a" * 50, 7, None, "\x1b[31m"])
def test_a_strange_phase_is_not_repeated(phase):
    text = json.dumps({"mode": "local", "data": {**STATE, "input": {"phase": phase}}})
    assert "phase" not in refused(answer(raising(ValueError("x")), text))


def test_a_handler_that_cannot_be_made_is_an_error_and_is_tried_again():
    tries = []

    def load(mode):
        tries.append(mode)
        if len(tries) == 1:
            raise ImportError(SECRET)
        return lambda data: {"output": {}}

    respond = Responder(load)
    line = refused(json.loads(respond(request())))
    assert "ImportError" in line and SECRET not in line
    assert [json.loads(respond(request()))["type"] for _ in range(2)] == ["stdout"] * 2
    assert tries == ["local", "local"]


# --- the service -----------------------------------------------------------------------------------------------------


def serving(load, talk, **options):
    """Serve in this process while `talk(uri)` runs; return what `serve` returned after SIGTERM."""

    async def main():
        reservation, bound = Reservation(), asyncio.Event()
        serve = server.serve(load, reservation.port, host="127.0.0.1", listening=lambda port: bound.set(), **options)
        service = asyncio.ensure_future(serve)
        await bound.wait()
        try:
            await talk(f"ws://127.0.0.1:{reservation.port}")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            busy = await service
            reservation.release()
        return busy

    return asyncio.run(main())


def test_calls_never_overlap_and_share_one_thread():
    inside, threads = threading.Lock(), set()

    def handler(data):
        assert inside.acquire(blocking=False), "two calls at once"
        threads.add(threading.get_ident())
        threading.Event().wait(0.01)
        inside.release()
        return {"output": {}}

    async def call(uri):
        async with connect(uri, proxy=None) as connection:
            await connection.send(request())
            return json.loads(await connection.recv())["type"]

    async def talk(uri):
        assert await asyncio.gather(*(call(uri) for _ in range(8))) == ["stdout"] * 8

    assert serving(lambda mode: handler, talk) is False
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_probes_are_answered_while_a_call_is_computed():
    release = threading.Event()

    def handler(data):
        assert release.wait(30)
        return {"output": {}}

    async def talk(uri):
        async with connect(uri, proxy=None) as connection:
            await connection.send(request())
            for _ in range(3):
                async with connect(uri, proxy=None):
                    pass
            release.set()
            assert json.loads(await connection.recv())["type"] == "stdout"

    serving(lambda mode: handler, talk)


def test_a_request_beyond_the_limit_is_closed_with_a_code_that_the_platform_reports():
    async def talk(uri):
        async with connect(uri, proxy=None) as connection:
            await connection.send(request(text="x" * 2000))
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 1009

    serving(lambda mode: lambda data: {"output": {}}, talk, request_limit=1000)


def test_a_call_of_the_first_protocol_is_ended_at_once_with_a_reason(caplog, monkeypatch):
    """As coinstac-container-manager 6.9.8 calls for compspecVersion 1; it rejects on any close code but 1000."""
    monkeypatch.setattr(server, "_FAREWELL", 0.3)  # what it has not read, it is not waited for

    async def talk(uri):
        async with connect(uri, proxy=None) as connection:
            await connection.send(json.dumps({"command": "python", "args": ["entry.py"]}, separators=(",", ":")))
            await connection.send(json.dumps({"input": {}, "cache": {}, "state": {}}))
            await connection.send(b"")
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 1008 and "compspecVersion" in connection.close_reason

    serving(lambda mode: pytest.fail, talk)
    assert ["compspecVersion" in record.getMessage() for record in caplog.records] == [True]


def test_a_request_of_five_megabytes_passes():
    async def talk(uri):
        async with connect(uri, proxy=None) as connection:
            await connection.send(request(text="x" * 5_000_000))
            assert json.loads(await connection.recv())["data"]["output"] == {"size": 5_000_000}

    serving(lambda mode: lambda data: {"output": {"size": len(data["input"]["text"])}}, talk)


def test_a_web_page_cannot_call():
    async def talk(uri):
        with pytest.raises(InvalidStatus):
            await connect(uri, proxy=None, origin="http://127.0.0.1:8080")

    serving(lambda mode: pytest.fail, talk)


def test_a_connection_without_a_whole_request_is_closed(monkeypatch):
    """Neither silence nor one byte after the other keeps it open."""
    monkeypatch.setattr(server, "_SILENCE", 0.5)

    async def talk(uri):
        for trickle in (False, True):
            async with connect(uri, proxy=None) as connection:

                async def pieces():
                    while True:
                        yield "x"
                        await asyncio.sleep(0.05)

                sending = asyncio.ensure_future(connection.send(pieces())) if trickle else None
                with pytest.raises(ConnectionClosed):
                    await connection.recv()
                assert connection.close_code == 1008 and "no whole request" in connection.close_reason
                if sending:
                    with pytest.raises(ConnectionClosed):
                        await sending

    serving(lambda mode: pytest.fail, talk)


def test_a_crowd_cannot_keep_the_platform_out():
    """The oldest connection that asks for nothing makes way; one whose call is being answered never does."""
    release = threading.Event()

    def handler(data):
        assert release.wait(30)
        return {"output": {}}

    async def talk(uri):
        port = int(uri.rpartition(":")[2])
        async with connect(uri, proxy=None) as first:
            await first.send(request())
            async with connect(uri, proxy=None):
                pass  # by now the call has reached the worker
            crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * admission.MOST)]
            async with connect(uri, proxy=None) as second:
                await second.send(request())
                async with connect(uri, proxy=None):
                    pass
                release.set()
                assert [json.loads(await one.recv())["type"] for one in (first, second)] == ["stdout"] * 2
            ended = [await asyncio.wait_for(_ended(reader), 5) for reader, _ in crowd[: admission.MOST]]
            assert all(ended)
            for _, writer in crowd:
                writer.close()

    serving(lambda mode: handler, talk)


async def _ended(reader):
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_a_token_is_asked_for_only_where_one_was_given():
    async def talk(uri):
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
            with pytest.raises(InvalidStatus) as caught:
                await connect(uri, proxy=None, additional_headers=headers)
            assert caught.value.response.status_code == 401
        async with connect(uri, proxy=None, additional_headers={"Authorization": "Bearer secret"}) as connection:
            await connection.send(request())
            assert json.loads(await connection.recv())["type"] == "stdout"

    serving(lambda mode: lambda data: {"output": {}}, talk, token="secret")


def test_a_call_in_the_works_is_told_that_the_server_goes():
    release = threading.Event()

    async def talk(uri):
        connection = await connect(uri, proxy=None)
        await connection.send(request())
        async with connect(uri, proxy=None):
            pass  # by now the call has reached the worker

        async def told():
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 1001
            release.set()

        talk.told = asyncio.ensure_future(told())

    def handler(data):
        release.wait(30)
        return {"output": {}}

    serving(lambda mode: handler, talk)
    assert release.is_set()


@pytest.fixture
def process(tmp_path):
    """A node's process, its port, and the file with all that it printed."""
    reservation = Reservation()
    printed = tmp_path / "printed"
    with printed.open("wb") as file:
        command = [sys.executable, str(SUMMING)]
        node = subprocess.Popen(command, env=environment(reservation.port, 1), stdout=file, stderr=file)
    try:
        while True:
            try:
                connect_sync(f"ws://127.0.0.1:{reservation.port}", proxy=None).close()
                break
            except ConnectionRefusedError:
                assert node.poll() is None, printed.read_text()
        yield node, f"ws://127.0.0.1:{reservation.port}", printed
    finally:
        node.kill()
        node.wait()
        reservation.release()


def summing_request(folder, *fault):
    task = {"number": 1, "rounds": 1, "fault": [list(fault)] if fault else []}
    state = {"iteration": 1, "transferDirectory": str(folder), "outputDirectory": str(folder)}
    return json.dumps({"mode": "local", "data": {"input": task, "cache": {}, "state": state}})


def test_probes_leave_no_trace(process, tmp_path):
    _, uri, printed = process
    for _ in range(3):
        connect_sync(uri, proxy=None).close(1000, "Test Connection")
    socket.create_connection(("127.0.0.1", int(uri.rpartition(":")[2]))).close()
    with connect_sync(uri, proxy=None) as connection:
        connection.send(summing_request(tmp_path))
        assert json.loads(connection.recv())["type"] == "stdout"
    assert printed.read_bytes() == b""


def test_a_handler_that_exits_is_answered(process, tmp_path):
    with connect_sync(process[1], proxy=None) as connection:
        connection.send(summing_request(tmp_path, 1, "exit"))
        assert "SystemExit" in refused(json.loads(connection.recv()))
        connection.send(summing_request(tmp_path))
        assert json.loads(connection.recv())["type"] == "stdout"


def test_a_signal_ends_an_idle_process(process):
    process[0].send_signal(signal.SIGINT)
    assert process[0].wait(timeout=20) == 0


def test_a_signal_ends_a_process_that_computes(process, tmp_path):
    node, uri, _ = process
    with connect_sync(uri, proxy=None) as connection:
        connection.send(summing_request(tmp_path, 1, "hang"))
        connect_sync(uri, proxy=None).close()
        node.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd.code == 1001
    assert node.wait(timeout=20) == 0


def test_a_reply_that_is_being_sent_arrives_after_a_signal(process, tmp_path):
    node, uri, _ = process
    frames = ClientProtocol(parse_uri(uri), max_size=None)
    with socket.create_connection(("127.0.0.1", int(uri.rpartition(":")[2])), timeout=20) as sock:
        frames.send_request(frames.connect())
        sock.sendall(b"".join(frames.data_to_send()))
        frames.receive_data(sock.recv(65536))
        frames.events_received()
        frames.send_text(summing_request(tmp_path, 1, "large").encode())
        sock.sendall(b"".join(frames.data_to_send()))
        frames.receive_data(sock.recv(1000))  # more follows than all buffers hold, so the server is at it
        node.send_signal(signal.SIGTERM)
        texts = []
        while not texts and (data := sock.recv(2**20)):
            frames.receive_data(data)
            texts = [frame.data for frame in frames.events_received() if frame.opcode is Opcode.TEXT]
    assert len(json.loads(texts[0])["data"]["output"]["text"]) == 60 * 2**20
    assert node.wait(timeout=20) == 0
