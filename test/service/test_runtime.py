"""A process that answers Lambda's runtime API, played by a real server."""

import http.server
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTIONS = """
from computation.errors import ServiceError
def answer(event, context):
    if event.get("fail"):
        raise ServiceError("one sentence", "a secret")
    if event.get("break"):
        raise KeyError("a secret")
    if event.get("leave"):
        return {1, 2}
    return {"saw": event, "id": context.aws_request_id, "until": context.deadline}
"""


class _Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        number, event = self.server.events.get()
        body = json.dumps(event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", f"id-{number}")
        self.send_header("Lambda-Runtime-Deadline-Ms", "1795871227190")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.put((self.path, body, self.headers.get("Lambda-Runtime-Function-Error-Type")))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.daemon_threads = True
    server.events, server.told = queue.Queue(), queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.events.put((0, {}))  # whoever still waits
    server.shutdown()
    server.server_close()


def _start(api, folder, name):
    (folder / "functions.py").write_text(FUNCTIONS)
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}", "PYTHONPATH": path}
    words = [sys.executable, "-m", "service.runtime", name]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def test_events_are_answered_one_after_the_other_and_failures_end_nothing(api, tmp_path):
    events = [{"a": "ü"}, {"fail": 1}, {"break": 1}, {"leave": 1}, {"b": 2}]
    for number, event in enumerate(events):
        api.events.put((number, event))
    process = _start(api, tmp_path, "functions.answer")
    try:
        told = [api.told.get(timeout=60) for _ in events]
    finally:
        process.kill()
    said = process.communicate()[1]
    at = "/2018-06-01/runtime/invocation/id-"
    assert told[0] == (f"{at}0/response", {"saw": {"a": "ü"}, "id": "id-0", "until": 1795871227190}, None)
    assert told[1][0] == f"{at}1/error"
    assert told[1][1] == {"errorMessage": "one sentence", "errorType": "ServiceError", "stackTrace": []}
    assert told[1][2] == "ServiceError"
    assert [path for path, *_ in told[2:]] == [f"{at}2/error", f"{at}3/error", f"{at}4/response"]
    assert "secret" not in json.dumps(told) + said


@pytest.mark.parametrize("name", ["functions.nothing", "nowhere.answer", "answer"])
def test_a_function_that_is_not_there_is_told_before_any_event(api, tmp_path, name):
    process = _start(api, tmp_path, name)
    path, told, _ = api.told.get(timeout=60)
    assert path == "/2018-06-01/runtime/init/error"
    assert told["errorMessage"].startswith("unexpected ")
    assert process.wait(30) == 1
    process.stderr.close()
