"""The shapes of everything that the API takes and gives, once: bodies are checked by them, and they are published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from service.cases.starting import MOST
from service.identity.passwords import LONGEST
from service.identity.principal import ROLES
from service.protocol import PRESENCES
from service.protocol.records import Phase, RunState, StepState
from service.web.operations import ref
from service.web.shapes import Schema

__all__ = ["NAMED", "json_body"]

_STATES = get_args(RunState)
_MEMBER_STATES = ["invited", "accepted", "declined", "inactive", "left", "removed"]
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def _object(properties: Mapping[str, Any], optional: tuple[str, ...] = (), **rest: Any) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **rest,
    }


def _text(most: int = 200, **rest: Any) -> Schema:
    return {"type": "string", "maxLength": most, **rest}


def _many(item: Schema, most: int = 1000) -> Schema:
    return {"type": "array", "items": item, "maxItems": most}


def _whole(low: int = 0, **rest: Any) -> Schema:
    return {"type": "integer", "minimum": low, **rest}


def _one_of(words: Any) -> Schema:
    return {"type": "string", "enum": list(words)}


def _page(name: str, most: int = 200) -> Schema:
    """A page of a list, and the cursor of the next one: empty where there is none."""
    return _object({"items": _many(ref(name), most), "cursor": _text()})


_FLAG: Schema = {"type": "boolean"}
_PLAIN: Schema = {"type": "object"}
_TIME = _whole(description="Milliseconds since 1970, UTC, by the server's clock; 0 is never.")
_DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256."}
_DIGEST_OR_NONE: Schema = {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "SHA-256, or empty."}
_NAME = _text(256)
_PASSWORD = _text(4 * LONGEST, format="password")
_TOKEN = _text(256)
_ROLES = _many(_one_of(ROLES), 8)
_SHARES: Schema = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}

_RUN_LINE = {
    "id": _text(), "name": _text(), "state": _one_of(_STATES), "reason": _text(), "step": _whole(-1),
    "rounds": _whole(), "created": _TIME, "changed": _TIME, "digest": _DIGEST,
}  # fmt: skip
_MEMBERSHIP = {
    "subject": _text(), "role": _one_of(["coordinator", "site", "viewer"]), "site": _text(),
    "state": _one_of(_MEMBER_STATES), "invited": _TIME, "answered": _TIME, "missed": _whole(),
}  # fmt: skip
_FILE = {"name": _text(128), "size": _whole(), "sha256": _DIGEST}
_CONTENT = {
    "message": {**_PLAIN, "description": "The handler's message."},
    "uploads": {**_many(_text(64), 8), "description": "Ids of the reservations under which its files were sent."},
    "inline": {
        "type": "object", "maxProperties": 8, "additionalProperties": {"type": "string", "maxLength": 1_500_000},
        "description": "Small files by name, in base64: one request instead of three.",
    },
}  # fmt: skip

#: Every schema with a name.
NAMED: Mapping[str, Schema] = {
    "Problem": _object(
        {
            "type": _text(), "title": _text(), "status": _whole(400), "detail": _text(2000), "code": _text(),
            "request": _text(), "details": _PLAIN,
        }
    ),
    "Health": _object({"status": _text()}),
    "Principal": _object(
        {"subject": _text(), "name": _text(), "roles": _ROLES, "since": _TIME, "machine": _FLAG}
    ),
    "Login": _object({"name": _NAME, "password": _PASSWORD}),
    "Refresh": _object({"refresh": _TOKEN}),
    "NewPassword": _object({"old": _PASSWORD, "new": _PASSWORD}),
    "Tokens": _object(
        {"access": _text(), "until": _TIME, "refresh": _text(), "refresh_until": _TIME, "principal": ref("Principal")}
    ),
    "Account": _object(
        {"subject": _text(), "name": _text(), "roles": _ROLES, "disabled": _FLAG, "made": _TIME, "password": _FLAG}
    ),
    "Accounts": _object({"items": _many(ref("Account"), 100_000)}),
    "NewAccount": _object({"name": _NAME, "roles": _ROLES, "password": _PASSWORD}, optional=("password",)),
    "AccountChange": _object(
        {"roles": _ROLES, "disabled": _FLAG, "password": _PASSWORD}, optional=("roles", "disabled", "password")
    ),
    "Credential": _object(
        {
            "id": _text(), "subject": _text(), "label": _text(), "made": _TIME, "revoked": _FLAG,
            "token": _text(description="Shown once, when it is made."),
        },
        optional=("token",),
    ),
    "Credentials": _object({"items": _many(ref("Credential"), 100_000)}),
    "NewCredential": _object({"label": _NAME}),
    "Spec": {
        "type": "object",
        "properties": {
            "name": _text(), "description": _text(2000),
            "settings": {**_PLAIN, "description": "The owner's settings that differ from their defaults."},
            "participants": {
                "type": "array", "minItems": 1, "maxItems": 64,
                "items": _object(
                    {
                        "subject": _text(200, minLength=1),
                        "site": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
                    }
                ),
            },
            "viewers": _many(_text(200, minLength=1), 24), "quorum": _whole(1), "start_quorum": _whole(),
            "deadline": _whole(1), "extensions": _whole(), "inactive_after": _whole(1),
            "preparation": {"type": "object", "maxProperties": 32, "additionalProperties": _text()},
        },
        "required": ["name", "participants"],
    },
    "InitialModel": _object(
        {
            "card": _text(2**20, description="The exported model's JSON, as text."),
            "tensors": _text(4 * -(-MOST // 3), description="Its safetensors, in base64."),
        }
    ),
    "RunLine": _object(_RUN_LINE),
    "RunLines": _page("RunLine"),
    "Run": _object(
        {
            **_RUN_LINE, "detail": _text(2000), "owner": _text(), "spec": _PLAIN,
            "you": {"anyOf": [ref("Membership"), {"type": "null"}]},
        }
    ),
    "Membership": _object(_MEMBERSHIP),
    "Member": _object({**_MEMBERSHIP, "seen": _TIME, "status": _text(), "committed": _TIME}),
    "Members": _object({"items": _many(ref("Member"))}),
    "Acceptance": _object({"consent": _DIGEST, **_CONTENT}, optional=("uploads", "inline")),
    "Commit": _object({"base": _DIGEST, **_CONTENT}, optional=("uploads", "inline")),
    "Leaving": _object({"why": _text(300)}, optional=("why",)),
    "Heartbeat": _object({"status": _one_of(PRESENCES)}),
    "Presence": _object({"seen": _TIME, "status": _text()}),
    "Step": _object(
        {
            "number": _whole(), "state": _one_of(get_args(StepState)),
            "phase": _one_of(get_args(Phase)), "round": _whole(), "model": _DIGEST_OR_NONE,
            "base": _DIGEST_OR_NONE, "opened": _TIME, "deadline": _TIME, "extended": _whole(), "attempt": _whole(),
            "expected": _many(_text()), "counted": _many(_text()), "digest": _DIGEST_OR_NONE, "published": _TIME,
        }
    ),
    "Steps": _page("Step"),
    "Standing": _object(
        {
            "run": _object({"id": _text(), "state": _one_of(_STATES), "reason": _text(), "detail": _text(2000)}),
            "step": ref("Step"),
            "you": _object({"site": _text(), "state": _text(), "expected": _FLAG, "committed": _DIGEST_OR_NONE}),
        }
    ),
    "Announcement": _object(
        {"name": _text(128, minLength=1), "size": _whole(1, maximum=2**40), "sha256": _DIGEST}
    ),
    "Signed": _object(
        {"method": _one_of(["PUT", "GET"]), "url": _text(8000), "headers": _TEXTS, "expires": _TIME},
    ),
    "Upload": _object({"id": _text(), "file": _object(_FILE), "expires": _TIME, "send": ref("Signed")}),
    "Update": _object(
        {
            "step": _whole(), "site": _text(), "digest": _DIGEST, "committed": _TIME,
            "files": _many(_object(_FILE)), "result": ref("Result"),
        },
        optional=("result",),
    ),
    "ResultFile": _object(
        {**_FILE, "fetch": ref("Signed"), "content": {"type": "string", "description": "Base64, where asked for."}},
        optional=("content",),
    ),
    "Result": _object(
        {
            "number": _whole(), "digest": _DIGEST, "last": _FLAG, "published": _TIME, "message": _PLAIN,
            "files": _many(ref("ResultFile")),
        }
    ),
    "Pending": _object({"number": _whole(), "state": _text()}),
    "Event": _object(
        {
            "id": _text(), "at": _TIME, "kind": _text(), "who": _text(), "step": _whole(-1), "detail": _PLAIN,
        }
    ),
    "Events": _page("Event"),
    "Point": _object(
        {
            "step": _whole(), "published": _TIME, "round": _whole(), "loss": {"type": ["number", "null"]},
            "dice": _SHARES, "validated": _whole(-1), "best": _whole(-1), "void": _FLAG,
            "counted": _many(_text()), "skipped": _TEXTS,
        }
    ),
    "Points": _page("Point"),
    "Models": _object({"items": {"type": "object", "additionalProperties": ref("ResultFile")}}),
    "Report": _object(
        {
            "run": ref("Run"), "members": _many(ref("Member")), "papers": _many(ref("ResultFile")),
            "results": {"type": ["object", "null"], "description": "The centre's last message; null before the end."},
        }
    ),
}  # fmt: skip


def json_body(schema: Schema) -> dict[str, Any]:
    """Return the description of a JSON content."""
    return {"application/json": {"schema": schema}}
