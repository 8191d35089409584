"""The description of the API (OpenAPI 3.1), made of the same operations and schemas that answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from service.web.operations import Operation, ref
from service.web.problems import MEDIA_TYPE
from service.web.routes import OPERATIONS
from service.web.schemas import NAMED, json_body
from service.web.shapes import Schema

__all__ = ["PATH", "document", "statuses"]

PATH = "/v1/openapi.json"

_VERSION = "1.0.0"
_INTRODUCTION = """Federated training behind HTTPS. A coordinator makes a run and invites sites; each accepts it with
what its handler says to the join, and then, for each step, takes the centre's result and commits its own next message.
Times are milliseconds since 1970. What goes wrong is a problem document (RFC 9457) with a `code` for programs."""
_TAGS = {"/v1/auth": "identity", "/v1/me": "identity", "/v1/accounts": "identity", "/v1/runs": "runs"}
_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {"description": "Names this request in the service's log.", "schema": {"type": "string"}},
}
_RETRY: Mapping[str, Any] = {
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}},
}
_TAG: Mapping[str, Any] = {"ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}}}


def statuses(operation: Operation) -> set[int]:
    """Return every status with which an operation can be answered."""
    found = {*operation.answers, *operation.problems, 422, 500, 503}
    if not operation.open:
        found |= {401}
    if operation.body is not None:
        found |= {400, 408, 413, 415}
    if "{" in operation.path:
        found |= {404}
    if operation.method == "GET":
        found |= {304}
    return found


@lru_cache(maxsize=4)
def document(local: bool = True) -> dict[str, Any]:
    """Return the description, with or without what only a service with accounts of its own can do."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in offered(local):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    paths |= _others()
    return {
        "openapi": "3.1.0",
        "info": {"title": "COINSTAC MeshNet service", "version": _VERSION, "description": _INTRODUCTION},
        "paths": paths,
        "components": {
            "schemas": dict(NAMED),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _others() -> dict[str, dict[str, Any]]:
    """Describe what is no operation: it answers with something else than JSON, or is not asked with a token."""
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
    signed = {"parameters": [key], "tags": ["files"], "security": []}
    problem = {"description": "Refused.", "content": {MEDIA_TYPE: {"schema": ref("Problem")}}}
    after = {"name": "after", "in": "query", "schema": {"type": "string", "maxLength": 200}}
    run = {"name": "run", "in": "path", "required": True, "schema": _TEXT}
    last = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    lines = {"description": "Events as they happen.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        PATH: {
            "get": {
                "operationId": "openapi", "summary": "This description.", "tags": ["health"], "security": [],
                "responses": {"200": {"description": "OK", "content": json_body({"type": "object"})}},
            }
        },
        "/v1/runs/{run}/events/stream": {
            "get": {
                "operationId": "stream", "summary": "The audit trail by server-sent events.", "tags": ["runs"],
                "parameters": [run, after, last], "security": [{"token": []}],
                "responses": {"200": lines, "default": problem},
            }
        },
        "/v1/blobs/{key}": {
            "get": {
                "operationId": "fetch", "summary": "Fetch a file by a URL that the service signed.", **signed,
                "responses": {"200": {"description": "OK", "content": octets}, "default": problem},
            },
            "put": {
                "operationId": "send", "summary": "Send a file to a URL that the service signed.", **signed,
                "requestBody": {"required": True, "content": octets},
                "responses": {"201": {"description": "Created"}, "default": problem},
            },
        },
    }  # fmt: skip


def offered(local: bool) -> Iterable[Operation]:
    """Return the operations of a service with or without accounts of its own."""
    return (operation for operation in OPERATIONS if local or not operation.local)


def _described(operation: Operation) -> dict[str, Any]:
    tag = next((tag for start, tag in _TAGS.items() if operation.path.startswith(start)), "health")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [tag],
        "parameters": [*_path(operation), *_query(operation), *_asked(operation)],
        "responses": {str(status): _answer(operation, status) for status in sorted(statuses(operation))},
        "security": [] if operation.open else [{"token": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": json_body(operation.body)}
    return described


def _path(operation: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]} for name in names]


_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
_PATH_SCHEMAS: Mapping[str, Schema] = {
    "run": _TEXT, "subject": _TEXT, "credential": _TEXT, "site": _TEXT,
    "number": {"type": "integer", "minimum": 0, "maximum": 999_999_999, "description": "Of the step; 0 is the join."},
}  # fmt: skip


def _query(operation: Operation) -> list[dict[str, Any]]:
    required = operation.required
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in operation.parameters.items()
    ]


def _asked(operation: Operation) -> list[dict[str, Any]]:
    """Describe the headers that count."""
    asked: list[dict[str, Any]] = []
    if operation.keyed:
        schema = {"type": "string", "pattern": "^[!-~]{1,128}$"}
        text = "The same key and body do the same thing once, however often they come within a day."
        asked.append({"name": "Idempotency-Key", "in": "header", "schema": schema, "description": text})
    return asked


def _answer(operation: Operation, status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": dict(_HEADERS)}
    if status in (202, 429, 503):
        answer["headers"] |= _RETRY
    if status == 200 and operation.method == "GET":
        answer["headers"] |= _TAG
    schema = operation.answers.get(status)
    if schema is not None:
        answer["content"] = json_body(schema)
    elif status >= 400:
        answer["content"] = {MEDIA_TYPE: {"schema": ref("Problem")}}
    return answer
