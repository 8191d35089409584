"""What pages say of states, events and values, in words that people use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.protocol import Event

__all__ = ["DONE", "ROLES", "RUNS", "SITES", "duration", "event", "setting"]

#: A run's states: what each is called, and the kind that colours and marks it.
RUNS: Mapping[str, tuple[str, str]] = {
    "draft": ("Draft", "idle"),
    "inviting": ("Inviting", "waits"),
    "running": ("Running", "runs"),
    "paused": ("Paused", "waits"),
    "completed": ("Completed", "good"),
    "failed": ("Failed", "bad"),
    "aborted": ("Aborted", "bad"),
}
#: A site's, likewise.
SITES: Mapping[str, tuple[str, str]] = {
    "invited": ("Invited", "waits"),
    "accepted": ("Accepted", "good"),
    "declined": ("Declined", "bad"),
    "preparing": ("Preparing", "runs"),
    "training": ("Training", "runs"),
    "validating": ("Validating", "runs"),
    "uploading": ("Uploading", "runs"),
    "applying": ("Taking the result over", "runs"),
    "waiting": ("Waiting", "idle"),
    "uploaded": ("Uploaded", "good"),
    "finished": ("Finished", "good"),
    "late": ("Late", "bad"),
    "silent": ("Not heard of", "bad"),
    "inactive": ("Dropped: away", "bad"),
    "left": ("Left", "bad"),
    "removed": ("Removed", "bad"),
}
ROLES: Mapping[str, str] = {
    "administrator": "keeps accounts and sees every run",
    "coordinator": "makes runs and invites sites",
    "site": "takes part in runs with its own scans",
    "viewer": "looks on where it was let in",
}
#: What is said after something was done, by a word that the address carries.
DONE: Mapping[str, str] = {
    "drafted": "The draft is kept. Look it over; sites are asked only when you invite them.",
    "revised": "The draft is changed.",
    "model": "The run starts from the model that you uploaded; the centre hands it to all sites.",
    "invited": "The sites are invited.",
    "started": "The run has started.",
    "paused": "The run is paused. What is being averaged is still published.",
    "resumed": "The run goes on.",
    "aborted": "The run is aborted.",
    "deleted": "The run and its files are deleted.",
    "declined": "The invitation is declined.",
    "left": "The site has left the run.",
    "removed": "The site is out of the run.",
    "added": "The account is made.",
    "changed": "The account is changed.",
    "revoked": "The credential counts no more.",
    "logged-out": "You are logged out.",
    "password": "The password is changed; all sessions have ended. Log in with the new one.",
}

_EVENTS: Mapping[str, str] = {
    "created": "made the run",
    "revised": "changed the draft",
    "invited": "invited the sites",
    "accepted": "accepted the spec",
    "declined": "declined",
    "left": "left the run",
    "removed": "took a site out",
    "inactive": "waits for some sites no more: they missed too many rounds",
    "rejoined": "came back",
    "started": "started the run",
    "paused": "paused the run",
    "resumed": "went on with the run",
    "aborted": "aborted the run",
    "committed": "sent its update",
    "late": "came too late; its update does not count",
    "refused": "sent an update that was refused",
    "extended": "waits for longer: too few sites had sent",
    "claimed": "began to combine",
    "published": "published the result",
    "attempt failed": "failed at one attempt and tries again",
    "completed": "completed the run",
    "failed": "ended the run, which failed",
}


def event(one: Event) -> str:
    """Return what an event tells, without who and when."""
    return _EVENTS.get(one.kind, one.kind)


def duration(milliseconds: float) -> str:
    """Return how long something is, in its two largest units."""
    seconds = max(0, round(milliseconds / 1000))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def setting(value: Any) -> str:
    """Return a setting's value as a person would write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    return "none" if value in ("", None) else f"{value:g}" if isinstance(value, float) else str(value)
