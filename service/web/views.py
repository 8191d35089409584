"""Records as the API shows them; `schemas` says the same of their shapes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from service.blobs.base import Signed
from service.cases.reading import Member, Standing
from service.identity.local import Tokens
from service.identity.principal import Principal
from service.identity.records import Account, Credential
from service.protocol import Event, File, Membership, Result, Run, Step, Update, Upload

__all__ = [
    "account",
    "credential",
    "event",
    "file",
    "line",
    "member",
    "membership",
    "point",
    "principal",
    "result",
    "run",
    "signed",
    "standing",
    "step",
    "tokens",
    "update",
    "upload",
]


def principal(who: Principal) -> dict[str, Any]:
    """Show who somebody is."""
    return {
        "subject": who.sub, "name": who.name, "roles": sorted(who.roles), "since": who.since, "machine": who.machine,
    }  # fmt: skip


def tokens(given: Tokens) -> dict[str, Any]:
    """Show what a login gave: the one place where tokens are shown, beside `credential`."""
    return {
        "access": given.access,
        "until": given.until,
        "refresh": given.refresh,
        "refresh_until": given.refresh_until,
        "principal": principal(given.principal),
    }


def account(one: Account) -> dict[str, Any]:
    """Show an account, without its password."""
    return {
        "subject": one.sub,
        "name": one.name,
        "roles": sorted(one.roles),
        "disabled": one.disabled,
        "made": one.made,
        "password": one.password != "",
    }


def credential(one: Credential, token: str = "") -> dict[str, Any]:
    """Show a credential; its token only when it has just been made."""
    shown = {"id": one.id, "subject": one.sub, "label": one.label, "made": one.made, "revoked": one.revoked}
    return {**shown, "token": token} if token else shown


def line(one: Run) -> dict[str, Any]:
    """Show a run in a list."""
    return {
        "id": one.id,
        "name": one.wanted.name,
        "state": one.state,
        "reason": one.reason,
        "step": one.step,
        "rounds": one.rounds,
        "created": one.created,
        "changed": one.changed,
        "digest": one.digest,
    }


def run(one: Run, own: Membership | None) -> dict[str, Any]:
    """Show a run, with the spec that sites consent to, and what the caller is in it."""
    return {
        **line(one),
        "detail": one.detail,
        "owner": one.owner,
        "spec": json.loads(one.spec),
        "you": membership(own) if own else None,
    }


def membership(one: Membership) -> dict[str, Any]:
    """Show what somebody is in a run."""
    return {
        "subject": one.subject,
        "role": one.role,
        "site": one.site,
        "state": one.state,
        "invited": one.invited,
        "answered": one.answered,
        "missed": one.missed,
    }


def member(one: Member) -> dict[str, Any]:
    """Show somebody in a run and what it does."""
    return {
        **membership(one.membership),
        "seen": one.presence.seen if one.presence else 0,
        "status": one.presence.status if one.presence else "",
        "committed": one.committed,
    }


def step(one: Step) -> dict[str, Any]:
    """Show a step; its result has an address of its own."""
    return {
        "number": one.number,
        "state": one.state,
        "phase": one.phase,
        "round": one.round,
        "model": one.model,
        "base": one.base,
        "opened": one.opened,
        "deadline": one.deadline,
        "extended": one.extended,
        "attempt": one.attempt,
        "expected": list(one.expected),
        "counted": [site for site, _ in one.frozen],
        "digest": one.result.digest if one.result else "",
        "published": one.result.published if one.result else 0,
    }


def standing(one: Standing) -> dict[str, Any]:
    """Show where a run stands, for the caller."""
    site = one.member.site if one.member else ""
    return {
        "run": {"id": one.run.id, "state": one.run.state, "reason": one.run.reason, "detail": one.run.detail},
        "step": step(one.step),
        "you": {
            "site": site,
            "state": one.member.state if one.member else "",
            "expected": site != "" and site in one.step.expected,
            "committed": one.committed,
        },
    }


def upload(one: Upload, where: Signed) -> dict[str, Any]:
    """Show a reservation, and how to send what it is for."""
    return {"id": one.id, "file": file(one.file), "expires": one.expires, "send": signed(where)}


def file(one: File) -> dict[str, Any]:
    """Show what is known of a file."""
    return {"name": one.name, "size": one.size, "sha256": one.sha256}


def signed(where: Signed) -> dict[str, Any]:
    """Show a URL that its bearer may use."""
    return asdict(where)


def update(one: Update) -> dict[str, Any]:
    """Show what was committed."""
    return {
        "step": one.step,
        "site": one.site,
        "digest": one.digest,
        "committed": one.committed,
        "files": [file(item) for item in one.files],
    }


def event(one: Event) -> dict[str, Any]:
    """Show a line of the audit trail."""
    shown = {"id": one.id, "at": one.at, "kind": one.kind, "who": one.who, "step": one.step}
    return {**shown, "detail": dict(one.detail)}


#: What the series take from the centre's verdict on a round.
_SERIES = ("round", "loss", "dice", "validated", "best", "void", "counted", "skipped")


def point(one: Step) -> dict[str, Any] | None:
    """Show what a published round adds to the series; nothing of steps that are no rounds."""
    if one.phase != "train" or one.result is None:
        return None
    message = json.loads(one.result.message)
    return {"step": one.number, "published": one.result.published, **{name: message.get(name) for name in _SERIES}}


def result(one: Step, made: Result) -> dict[str, Any]:
    """Show a step's result, except for its files."""
    return {
        "number": one.number,
        "digest": made.digest,
        "last": made.last,
        "published": made.published,
        "message": json.loads(made.message),
    }
