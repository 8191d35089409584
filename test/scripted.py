"""A real server on loopback that answers as a test says."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scripted:
    """Answers with the next of `answers` for a path, the last one for ever: status, headers, body; or what to do."""

    def __init__(self):
        self.answers, self.seen, self.url = {}, [], ""

    def on(self, path, *answers):
        self.answers[path] = list(answers)

    def next(self, method, path, headers, body):
        self.seen.append((method, path, headers, body))
        left = self.answers.get(path.split("?")[0], [(404, {}, b"{}")])
        return left.pop(0) if len(left) > 1 else left[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.scripted.next(self.command, self.path, dict(self.headers), body)
        if callable(answer):
            answer(self)
            self.close_connection = True
            return
        status, headers, content = answer
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, *_):
        pass


def _wrap(made, server, context):
    """Speak TLS from now on."""
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = made.url.replace("http:", "https:")


@contextmanager
def scripted():
    made = Scripted()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.scripted, server.daemon_threads = made, True
    made.url = f"http://127.0.0.1:{server.server_port}"
    made.wrap = lambda context: _wrap(made, server, context)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
