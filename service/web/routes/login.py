"""Logging in and out of a service that keeps its accounts itself, and who one is."""

from __future__ import annotations

from service.identity.local import Local
from service.web import views
from service.web.operations import Call, Operation, Reply, ref

__all__ = ["OPERATIONS", "local"]


def local(call: Call) -> Local:
    """Return the service's own accounts; operations that need them are not there without them."""
    assert call.served.local is not None
    return call.served.local


def login(call: Call) -> Reply:
    """Begin a session."""
    return Reply(views.tokens(local(call).login(call.body["name"], call.body["password"], call.address)))


def refresh(call: Call) -> Reply:
    """Renew a session's token."""
    return Reply(views.tokens(local(call).refresh(call.body["refresh"])))


def logout(call: Call) -> Reply:
    """End the session of the token that came with the request."""
    local(call).logout(call.token)
    return Reply(status=204)


def password(call: Call) -> Reply:
    """Take a new password."""
    local(call).change_password(call.who.sub, call.body["old"], call.body["new"], call.address)
    return Reply(status=204)


def me(call: Call) -> Reply:
    """Say who asks."""
    return Reply(views.principal(call.who))


OPERATIONS = (
    Operation(
        "POST", "/v1/auth/login", "login", "Begin a session.", login, {200: ref("Tokens")}, (401, 429),
        body=ref("Login"), open=True, costly=True, local=True,
    ),
    Operation(
        "POST", "/v1/auth/refresh", "refresh", "A new access token for a session.", refresh, {200: ref("Tokens")},
        (401,), body=ref("Refresh"), open=True, local=True,
    ),
    Operation("POST", "/v1/auth/logout", "logout", "End the session.", logout, {204: None}, local=True),
    Operation(
        "POST", "/v1/auth/password", "password", "Take a new password, which ends all sessions.", password,
        {204: None}, (429,), body=ref("NewPassword"), costly=True, local=True,
    ),
    Operation("GET", "/v1/me", "me", "Who asks.", me, {200: ref("Principal")}),
)  # fmt: skip
