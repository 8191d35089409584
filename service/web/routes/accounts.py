"""Accounts of a service that keeps them itself, and the credentials of its sites."""

from __future__ import annotations

from service.protocol import Forbidden, Unknown
from service.web import views
from service.web.operations import Call, Operation, Reply, ref
from service.web.routes.login import local

__all__ = ["OPERATIONS"]


def _expect_administrator(call: Call) -> None:
    if not call.who.has("administrator"):
        raise Forbidden("not_administrator", "only an administrator may do that")


def accounts(call: Call) -> Reply:
    """List accounts: an administrator sees all, a coordinator those whom it may invite."""
    if not call.who.has("administrator", "coordinator"):
        raise Forbidden("not_coordinator", "only an administrator or a coordinator sees who has an account")
    found = local(call).records.accounts()
    if not call.who.has("administrator"):
        found = tuple(one for one in found if one.roles & {"site", "viewer"} and not one.disabled)
    return Reply({"items": [views.account(one) for one in found]})


def enrol(call: Call) -> Reply:
    """Make an account."""
    _expect_administrator(call)
    made = local(call).accounts.add(call.body["name"], call.body["roles"], call.body.get("password", ""))
    return Reply(views.account(made), 201)


def change(call: Call) -> Reply:
    """Change an account."""
    _expect_administrator(call)
    return Reply(views.account(local(call).accounts.change(call.path["subject"], **call.body)))


def _expect_own(call: Call) -> None:
    """Let administrators and the site's people through; a credential makes no other ones, so revoking it is enough."""
    if not call.who.has("administrator") and (call.who.sub != call.path["subject"] or call.who.machine):
        raise Unknown("account", "there is no such account, or it is not yours")


def credentials(call: Call) -> Reply:
    """List a site's credentials."""
    _expect_own(call)
    return Reply({"items": [views.credential(one) for one in local(call).records.credentials(call.path["subject"])]})


def mint(call: Call) -> Reply:
    """Make a credential and show its token."""
    _expect_own(call)
    made, token = local(call).accounts.add_credential(call.path["subject"], call.body["label"])
    return Reply(views.credential(made, token), 201)


def revoke(call: Call) -> Reply:
    """Let a credential count no more."""
    _expect_own(call)
    found = local(call).records.credential(call.path["credential"])
    if found is None or found.sub != call.path["subject"]:
        raise Unknown("credential", "there is no such credential of this account")
    local(call).records.revoke_credential(found.id)
    return Reply(status=204)


_ONE = "/v1/accounts/{subject}"
OPERATIONS = (
    Operation(
        "GET", "/v1/accounts", "accounts", "Who has an account; a coordinator sees whom it may invite.", accounts,
        {200: ref("Accounts")}, (403,), local=True,
    ),
    Operation(
        "POST", "/v1/accounts", "enrol", "Make an account.", enrol, {201: ref("Account")}, (403, 409, 429),
        body=ref("NewAccount"), costly=True, local=True,
    ),
    Operation(
        "PATCH", _ONE, "change_account", "Change roles, password, or whether it is disabled.", change,
        {200: ref("Account")}, (403, 404, 409, 429), body=ref("AccountChange"), costly=True, local=True,
    ),
    Operation(
        "GET", f"{_ONE}/credentials", "credentials", "A site's credentials, without their tokens.", credentials,
        {200: ref("Credentials")}, (404,), local=True,
    ),
    Operation(
        "POST", f"{_ONE}/credentials", "mint", "Make a credential for a site; its token is shown this once.", mint,
        {201: ref("Credential")}, (404, 409), body=ref("NewCredential"), local=True,
    ),
    Operation(
        "DELETE", f"{_ONE}/credentials/{{credential}}", "revoke", "Let a credential count no more.", revoke,
        {204: None}, (404,), local=True,
    ),
)  # fmt: skip
