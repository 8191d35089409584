"""Accounts, which administrators keep, and the credentials with which sites' programs come."""

from __future__ import annotations

import json

from starlette.responses import Response
from starlette.routing import BaseRoute

from service.identity.records import Account
from service.protocol import Refusal, Unknown
from service.web.dashboard.asking import Ask, go, page, render, status_of
from service.web.dashboard.front import Front

__all__ = ["routes"]


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [
        page(front, "/accounts", _list, "administrator", form=_add),
        page(front, "/accounts/{sub}", _show, "administrator", "site", form=_change),
        page(front, "/credentials", lambda ask: go(f"/accounts/{ask.who.sub}"), "site"),
    ]


def _list(ask: Ask, status: int = 200, problem: str = "") -> Response:
    # What was typed for an account that could not be made stays, but for the password.
    typed = {"typed": ask.said("name")[:64], "chosen": _chosen(ask)}
    found = ask.front.local.records.accounts()
    return render(ask, "accounts.html", status, accounts=found, problem=problem, said=ask.done, **typed)


def _chosen(ask: Ask, account: Account | None = None) -> list[str]:
    """Return the roles that a form asks for; those that an account has and that mean nothing here stay."""
    kept = account.roles - set(ask.front.roles) if account else ()
    return [*(role for role in ask.front.roles if f"role-{role}" in ask.form), *kept]


def _add(ask: Ask) -> Response:
    if ask.front.desk is None and not ask.said("password"):
        return _list(ask, 422, "an account without a password cannot do anything here; type one")
    try:
        made = ask.front.local.accounts.add(ask.said("name"), _chosen(ask), ask.said("password"))
    except Refusal as error:
        return _list(ask, status_of(error), error.public)
    return go(f"/accounts/{made.sub}", done="added")


def _account(ask: Ask) -> Account:
    """Return the account of the path, if the asker may see it: its own, or an administrator any."""
    sub = ask.path("sub")
    found = ask.front.local.records.account(sub) if sub == ask.who.sub or ask.who.has("administrator") else None
    if found is None:
        raise Unknown("account", "there is no such account, or it is not yours to see")
    return found


def _show(ask: Ask, status: int = 200, problem: str = "", token: str = "", label: str = "") -> Response:
    found = _account(ask)
    return render(
        ask,
        "account.html",
        status,
        account=found,
        credentials=ask.front.local.records.credentials(found.sub),
        problem=problem,
        kept=json.dumps({"server": ask.address, "token": token}) if token else "",
        label=label,
        said=ask.done,
    )


def _change(ask: Ask) -> Response:
    """Do what one of the page's forms asks for."""
    found, verb = _account(ask), ask.said("verb")
    try:
        if verb == "mint":
            made, token = ask.front.local.accounts.add_credential(found.sub, ask.said("label"))
            return _show(ask, token=token, label=made.label)
        if verb == "revoke":
            return _revoke(ask, found)
        if verb == "change" and ask.who.has("administrator"):
            disabled, password = "disabled" in ask.form, ask.said("password") or None
            ask.front.local.accounts.change(found.sub, _chosen(ask, found), disabled, password)
            return go(f"/accounts/{found.sub}", done="changed")
    except Refusal as error:
        return _show(ask, status_of(error), error.public)
    return _show(ask)


def _revoke(ask: Ask, account: Account) -> Response:
    found = ask.front.local.records.credential(ask.said("credential"))
    if found is None or found.sub != account.sub:
        raise Unknown("credential", "there is no such credential of this account")
    ask.front.local.records.revoke_credential(found.id)
    return go(f"/accounts/{account.sub}", done="revoked")
