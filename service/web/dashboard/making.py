"""A new run: a form from the settings' own declarations, a draft to look over, and the digest that sites consent to."""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from computation.settings import Option, Settings, options
from service.cases import coordinator, reading
from service.identity.records import Account
from service.protocol import Conflict, Malformed, Refusal, Spec
from service.protocol.spec import is_site
from service.web.dashboard.asking import Ask, go, page, render, status_of
from service.web.dashboard.front import Front

__all__ = ["Field", "differing", "raw_spec", "routes", "setting_fields"]

#: Rules of a run that are whole numbers: field of the spec, what it is called, what it says, lowest, highest.
_RULES = (
    ("quorum", "Quorum", "Sites that must have sent their update when a round is closed.", 1, 64),
    ("start_quorum", "Start quorum", "Sites that must have accepted when the run starts; 0 is the quorum.", 0, 64),
    ("deadline", "Round's deadline, seconds", "After it a round is closed without those that are missing.", 1, 604_800),
    ("extensions", "Extensions", "How often a round below the quorum waits again before the run fails.", 0, 100),
    ("inactive_after", "Dropped after", "Rounds in a row that a site may miss before nobody waits.", 1, 1_000_000),
)
_NUMBER = re.compile(r"-?[0-9]+")
#: How a flag stands in its field, false first.
_FLAGS = ("false", "true")


@dataclass(frozen=True)
class Field:
    """One input of the form.

    Attributes
    ----------
    name, label, help : str
        As the form has them.
    value : str
        What stands in it.
    kind : str
        `select`, `lines` or `text`.
    values : tuple of str
        The choices of a `select`, or what a `text` suggests.
    numeric : bool
        Whether a telephone shows digits first.
    """

    name: str
    label: str
    help: str
    value: str
    kind: str = "text"
    values: tuple[str, ...] = ()
    numeric: bool = False


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    makers = ("coordinator", "administrator")
    return [
        page(front, "/runs/new", _empty, *makers, form=_create, again=_kept),
        page(front, "/runs/{run}/edit", _edit, *makers, form=_revise, again=_kept_change),
    ]


def setting_fields(values: Mapping[str, Any]) -> dict[str, list[Field]]:
    """Return the fields of the owner's settings by the heading that each stands under."""
    groups: dict[str, list[Field]] = {}
    for name, (usual, option) in options(Settings).items():
        value = values.get(name, usual)
        shown = value if isinstance(value, str) else _typed(value)
        groups.setdefault(option.group, []).append(_field(name, usual, option, shown))
    return groups


def _field(name: str, usual: Any, option: Option, shown: str) -> Field:
    values = _FLAGS if option.kind == "boolean" else option.values
    kind = "select" if values else "lines" if name == "classes" else "text"
    numeric = isinstance(usual, int | float) and not isinstance(usual, bool)
    label = name.replace("_", " ").capitalize()
    return Field(f"set-{name}", label, option.help, shown, kind, values, numeric)


def _typed(value: Any) -> str:
    """Return a value as it is typed into its field."""
    if isinstance(value, list | tuple):
        return ("\n" if all(isinstance(one, str) for one in value) else ", ").join(map(_typed, value))
    if isinstance(value, bool):
        return _FLAGS[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(text: str, usual: Any, option: Option) -> Any:
    """Return what was typed as JSON would have it; what cannot be stays text, which the settings refuse by name."""
    text = text.strip()
    if option.kind == "boolean":
        return _FLAGS.index(text) == 1 if text in _FLAGS else text
    if isinstance(usual, tuple) and usual and isinstance(usual[0], str):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(usual, tuple):
        numbers = [_number(part) for part in re.split(r"[\s,;×x]+", text) if part]
        return numbers[0] if option.kind == "number" and len(numbers) == 1 else numbers
    return _number(text) if isinstance(usual, int | float) else text


def _number(text: str) -> Any:
    try:
        return int(text) if _NUMBER.fullmatch(text) else float(text)
    except (ValueError, OverflowError):
        return text


def raw_spec(ask: Ask) -> dict[str, Any]:
    """Return the spec that a form describes, as JSON that the protocol reads and may refuse."""
    known = options(Settings)
    settings = {
        name: _read(ask.said(f"set-{name}"), *told) for name, told in known.items() if _given(ask, name, told[0])
    }
    chosen = [name.removeprefix("site-") for name in ask.form if name.startswith("site-")]
    return {
        "name": ask.said("name").strip(),
        "description": " ".join(ask.said("description").split()),
        "settings": settings,
        "participants": [{"subject": one, "site": ask.said(f"named-{one}").strip()} for one in chosen],
        "viewers": [name.removeprefix("viewer-") for name in ask.form if name.startswith("viewer-")],
        **{name: _number(ask.said(name)) for name, *_ in _RULES if ask.said(name)},
        "preparation": _preparation(ask.said("preparation")),
    }


def _given(ask: Ask, name: str, usual: Any) -> bool:
    """Tell whether something stands in a setting's field: an empty one is as its default, unless that is a value."""
    return f"set-{name}" in ask.form and (ask.said(f"set-{name}").strip() != "" or usual in ("", ()))


def _preparation(text: str) -> Any:
    """Return the facts that lines such as `spacing_mm: 1 x 1 x 1` tell, or a line that tells none."""
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    wrong = [name for name, between, _ in pairs if not between]
    return wrong[0] if wrong else {name.strip(): value.strip() for name, _, value in pairs}


def _asked_for(ask: Ask) -> dict[str, Any]:
    """Return the spec of a form whose own faults have been found."""
    raw = raw_spec(ask)
    if isinstance(raw["preparation"], str):
        text = (
            f"the preparation's line {raw['preparation'][:60]!r} has no ':'; wanted one such as 'spacing_mm: 1 x 1 x 1'"
        )
        raise Malformed("spec", text, field="preparation")
    return raw


def differing(spec: Spec) -> list[tuple[str, Any, Any]]:
    """Return the settings that differ from their default: name, value, default."""
    usual = Settings().as_json()
    return [(name, value, usual[name]) for name, value in spec.settings.items() if value != usual[name]]


def _form(ask: Ask, spec: Mapping[str, Any], status: int = 200, **told: Any) -> Response:
    named = {str(one["subject"]): str(one["site"]) for one in spec.get("participants", ())}
    accounts = [one for one in ask.front.people if not one.disabled and one.sub != ask.who.sub]
    known = [one for one in accounts if "site" in one.roles]
    # Who was asked for and has no such account stays in sight, to be kept or taken out.
    strange = [Account(sub, sub, frozenset()) for sub in named if sub not in {one.sub for one in known}]
    sites = [(one, one.sub in named, named.get(one.sub, _suggested(one))) for one in [*known, *strange]]
    facts = "\n".join(f"{name}: {value}" for name, value in spec.get("preparation", {}).items())
    values = {
        "problem": "", "wrong": "", "run": None, "seen": "", "key": secrets.token_urlsafe(16),
        "spec": {"name": "", "description": "", **spec}, "facts": facts, "sites": sites,
        "viewers": [(one, one.sub in spec.get("viewers", ())) for one in accounts if "viewer" in one.roles],
        "groups": setting_fields(spec.get("settings", {})), "rules": _rules(spec),
    }  # fmt: skip
    return render(ask, "making.html", status, **{**values, **told})


def _rules(spec: Mapping[str, Any]) -> list[Field]:
    usual = {item.name: item.default for item in fields(Spec)}
    return [
        Field(name, label, f"{text} From {low} to {high}.", str(spec.get(name, usual[name])), numeric=True)
        for name, label, text, low, high in _RULES
    ]


def _suggested(account: Account) -> str:
    """Return a site's name in the run that comes close to its account's."""
    letters = unicodedata.normalize("NFKD", account.name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:64]
    return plain if is_site(plain) else "site"


def _empty(ask: Ask) -> Response:
    return _form(ask, {})


def _create(ask: Ask) -> Response:
    try:
        made = coordinator.create(ask.desk, ask.who, _asked_for(ask), ask.said("key")[:100])
    except Refusal as error:
        return _again(ask, error)
    return go(f"/runs/{made.id}", done="drafted")


def _edit(ask: Ask) -> Response:
    run = reading.run(ask.desk, ask.who, ask.path("run"))
    if run.state != "draft":
        raise Conflict("run_state", f"the run is {run.state}; what sites were asked for does not change any more")
    return _form(ask, json.loads(run.spec), run=run, seen=run.digest)


def _revise(ask: Ask) -> Response:
    try:
        changed = coordinator.revise(ask.desk, ask.who, ask.path("run"), _asked_for(ask), ask.said("seen"))
    except Refusal as error:
        run = reading.run(ask.desk, ask.who, ask.path("run"))
        # Who is told that the draft was changed meanwhile may put this in its place.
        return _again(ask, error, run=run, seen=run.digest if error.code == "changed" else ask.said("seen"))
    return go(f"/runs/{changed.id}", done="revised")


def _kept(ask: Ask) -> Response:
    return _again(ask, _other_session())


def _kept_change(ask: Ask) -> Response:
    # A draft that was changed since is still told of: the digest that was seen stays.
    run = reading.run(ask.desk, ask.who, ask.path("run"))
    return _again(ask, _other_session(), run=run, seen=ask.said("seen"))


def _other_session() -> Refusal:
    return Conflict("session", "nothing was done yet, since the session is another one; look it over and send it again")


def _again(ask: Ask, error: Refusal, **told: Any) -> Response:
    """Return the form as it was sent, with what is wrong with it and where."""
    settings = {name: ask.said(f"set-{name}") for name in options(Settings) if f"set-{name}" in ask.form}
    typed = {name: ask.said(name) for name in ("name", "description", *(name for name, *_ in _RULES))}
    spec = {**raw_spec(ask), **typed, "settings": settings, "preparation": {}}
    kept = {"facts": ask.said("preparation"), "key": ask.said("key")[:100]}
    return _form(ask, spec, status_of(error), **{"problem": error.public, "wrong": _where(error), **kept, **told})


def _where(error: Refusal) -> str:
    """Return the id of the field that an error is about."""
    setting = re.match(r"(?:unknown )?setting '([a-z_]+)'", error.public)
    if setting and setting[1] in options(Settings):
        return f"set-{setting[1]}"
    field = str(error.detail.get("field", ""))
    return field if field in {*(item.name for item in fields(Spec))} - {"settings"} else ""
