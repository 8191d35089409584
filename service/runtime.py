"""Lets a function of this product's own image be called by Lambda: `python -m service.runtime service.aws.aggregate`.

Lambda gives an image one address, at which it is asked for the next event and told what came of it ("Using the Lambda
runtime API", AWS Lambda Developer Guide). It stops the process between events and ends it whenever it likes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from importlib import import_module
from typing import Any

from computation.errors import public_text

__all__ = ["Context", "main", "serve"]

_AT = "/2018-06-01/runtime"
_JSON = {"Content-Type": "application/json"}

Function = Callable[[dict[str, Any], Any], Any]


@dataclass(frozen=True)
class Context:
    """What is known of one call.

    Attributes
    ----------
    aws_request_id : str
        Names it.
    deadline : int
        Milliseconds since 1970 at which Lambda ends it.
    """

    aws_request_id: str
    deadline: int


def main(name: str) -> None:
    """Answer events with the function of this name, for as long as Lambda lets this process live."""
    host = os.environ["AWS_LAMBDA_RUNTIME_API"]
    try:
        module, _, function = name.rpartition(".")
        found: Function = getattr(import_module(module), function)
    except Exception as error:
        _tell(host, f"{_AT}/init/error", error)
        raise
    while True:
        serve(host, found)


def serve(host: str, function: Function) -> None:
    """Wait for one event and answer it; a failure is told by one sentence, with no text of the event in it."""
    # Without a time-out: Lambda answers when there is something to do.
    status, headers, body = _asked(host, "GET", f"{_AT}/invocation/next")
    if status != 200:
        raise ConnectionError(f"Lambda has no next event: status {status}")
    context = Context(headers["Lambda-Runtime-Aws-Request-Id"], int(headers.get("Lambda-Runtime-Deadline-Ms", 0)))
    at = f"{_AT}/invocation/{context.aws_request_id}"
    try:
        answer = json.dumps(function(json.loads(body), context))
    except Exception as error:
        print(f"the call failed: {public_text(error)}", file=sys.stderr)
        _tell(host, f"{at}/error", error)
    else:
        _asked(host, "POST", f"{at}/response", answer.encode(), _JSON)


def _tell(host: str, path: str, error: Exception) -> None:
    kind = type(error).__name__
    told = {"errorMessage": public_text(error), "errorType": kind, "stackTrace": []}
    _asked(host, "POST", path, json.dumps(told).encode(), {**_JSON, "Lambda-Runtime-Function-Error-Type": kind})


def _asked(
    host: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, bytes]:
    connection = HTTPConnection(host)
    try:
        connection.request(method, path, body, headers or {})
        answer: HTTPResponse = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
