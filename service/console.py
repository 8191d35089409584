"""What people do with a service from a terminal: accounts on its own machine, runs over HTTPS."""

from __future__ import annotations

import argparse
import base64
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from computation.checks import is_number, is_text, parse_json
from computation.errors import IdentityError, ServiceError
from computation.model import exported
from computation.model.exported import Card
from computation.printable import plain
from computation.terminal import console, say
from service.asking import asked, written
from service.cases import starting
from service.client import credentials
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.link import Link
from service.client.way import way, why
from service.place import Place
from service.protocol.identifiers import is_identifier
from service.protocol.records import ENDED

__all__ = ["admin", "create", "login", "move", "site", "status", "watch"]

#: Seconds that a person waits for a service that does not answer, and between two looks at a run.
_PATIENCE, _LOOK = 60.0, 20
_LONGEST_SPEC = 2**20


def admin(options: argparse.Namespace) -> None:
    """Make the first administrator of a data folder."""
    accounts = Place(options.data).accounts()
    accounts.first_administrator(options.name, asked("password", twice=True))
    say(f"{options.name} is the administrator; now: coinstac-meshnet serve --data {shlex.quote(str(options.data))}")


def site(options: argparse.Namespace) -> None:
    """Make a site's account in a data folder, and its credentials in a file for its machine."""
    address = Address.parse(options.url)
    if options.credentials.exists():
        raise IdentityError("there is a file of that name already; name another one", str(options.credentials))
    place = Place(options.data)
    place.expect_founded()
    accounts = place.accounts()
    known = accounts.records.account_named(options.name)
    account = known or accounts.add(options.name, {"site"})
    _, token = accounts.add_credential(account.sub, options.credentials.name[:64])
    written(options.credentials, {"server": address.base, "token": token})
    say(f"{options.name} is a site; its credentials are in {options.credentials}: give them to that site, and no other")
    if address.local:
        say("they are for this machine alone; --url names the address by which another one reaches the service")


def login(options: argparse.Namespace) -> None:
    """Exchange a name and a password for credentials that end by themselves."""
    address = Address.parse(options.url)
    body = {"name": options.name, "password": asked("password")}
    try:
        found = way(httpx.URL(address.base), address.local)
        with httpx.Client(transport=found, trust_env=False, timeout=30.0) as http:
            answer = http.post(address.url("/v1/auth/login"), json=body)
        table = parse_json(answer.content[:65536])
    except httpx.HTTPError as error:
        raise ServiceError(f"the service cannot be reached ({why(error)}); is the URL right?") from None
    except ValueError:
        raise ServiceError("the service's answer is no JSON; is the URL that of a service of this product?") from None
    refresh = table.get("refresh") if isinstance(table, dict) else None
    if answer.status_code != 200 or not is_text(refresh, 4096) or not refresh:
        detail = table.get("detail") if isinstance(table, dict) else None
        raise IdentityError(str(detail) if is_text(detail, 600) and detail else "the service refused the login")
    written(options.credentials, {"server": address.base, "refresh": str(refresh)})
    say(f"logged in; the credentials are in {options.credentials}")


@contextmanager
def _linked(options: argparse.Namespace) -> Iterator[Link]:
    address = Address.parse(options.url)
    bearer = Bearer(address, lambda: credentials.read(options.credentials))
    draws = secrets.SystemRandom()
    with closing(Link(address, bearer, lambda: Backoff(draws, _PATIENCE), say)) as link:
        yield link


def create(options: argparse.Namespace) -> None:
    """Make a run and invite its sites."""
    model = _model(options.start_from) if options.start_from else {}
    with _linked(options) as link:
        spec = _spec(options.spec)
        if options.name:
            spec["name"] = options.name
        if options.site:
            spec["participants"] = _participants(link, options.site)
        spec["settings"] = {**_object(spec, "settings"), **dict(map(_assigned, options.setting))}
        run = link.post("/v1/runs", spec, key=secrets.token_hex(16))
        if options.start_from:
            run = link.post(_at(str(run.get("id")), "initial-model"), model)
        link.post(_at(str(run.get("id")), "invite"))
        say(f"run {run.get('id')}")
        say(f"spec {run.get('digest')}: sites consent to this digest")


def _spec(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            spec = parse_json(file.read(_LONGEST_SPEC))
    except (OSError, ValueError) as error:
        raise ServiceError("the spec cannot be read; wanted a JSON object", str(error)) from None
    if not isinstance(spec, dict):
        raise ServiceError("the spec is no JSON object; wanted one with name, settings and participants")
    return spec


def _model(path: Path) -> dict[str, str]:
    """Return an exported model as the service takes it; what is no model is refused before a run is made."""
    text = exported.read(path, exported.MOST_TEXT)
    card = Card.parse(text)
    blob = exported.read(path.with_name(card.tensors), card.most)
    starting.read(text, blob)
    return {"card": text.decode("utf-8-sig"), "tensors": base64.b64encode(blob).decode()}


def _object(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = table.get(name, {})
    return value if isinstance(value, dict) else {}


def _participants(link: Link, names: Sequence[str]) -> list[dict[str, str]]:
    """Return participants by the names of their accounts: `NAME`, or `NAME=SITE` where it is called so in the run."""
    items = link.get("/v1/accounts").get("items")
    known = {one.get("name"): one.get("subject") for one in items} if isinstance(items, list) else {}
    found = []
    for text in names:
        name, _, called = text.partition("=")
        if name not in known:
            raise ServiceError(f"there is no account {name[:60]!r}; make it with `coinstac-meshnet service site`")
        found.append({"subject": known[name], "site": called or name})
    return found


def _assigned(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ServiceError(f"a setting is {text[:60]!r}; wanted NAME=VALUE, such as epochs=20")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value  # a word, so that `strategy=fedavg` needs no quotes


def _at(run: str, verb: str = "") -> str:
    if not is_identifier(run):
        raise ServiceError("the run's id is none; `coinstac-meshnet service status` lists them")
    return f"/v1/runs/{run}/{verb}".rstrip("/")


def move(verb: str) -> Callable[[argparse.Namespace], None]:
    """Return what starts, pauses, resumes or aborts a run."""

    def moved(options: argparse.Namespace) -> None:
        with _linked(options) as link:
            say(f"the run is {link.post(_at(options.wanted, verb)).get('state')}")

    return moved


def status(options: argparse.Namespace) -> None:
    """Show all runs, or who is in one and what each is doing."""
    with _linked(options) as link:
        if options.wanted:
            console().print(_members(link, options.wanted))
            return
        table = Table("run", "name", "state", "step", "of", title="runs")
        for one in _items(link.get("/v1/runs", limit=100)):
            table.add_row(*(_cell(one.get(name)) for name in ("id", "name", "state", "step", "rounds")))
        console().print(table)


def _members(link: Link, run: str) -> Table:
    told = link.get(_at(run))
    title = (
        f"{_cell(told.get('name'))}: {_cell(told.get('state'))} {_cell(told.get('reason'))}, step {told.get('step')}"
    )
    table = Table("site", "state", "does", "last seen", "missed", title=title)
    for one in _items(link.get(_at(run, "members"))):
        seen = one.get("seen")
        ago = f"{max(0, round(time.time() - float(seen) / 1000))} s ago" if is_number(seen) and seen else "never"
        name = one.get("site") or one.get("role")
        table.add_row(_cell(name), _cell(one.get("state")), _cell(one.get("status")), ago, _cell(one.get("missed")))
    return table


def _items(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = told.get("items")
    return [one for one in items if isinstance(one, Mapping)] if isinstance(items, list) else []


def _cell(value: Any) -> str:
    return plain(str(value))[:100].replace("[", r"\[") if value is not None else ""


def watch(options: argparse.Namespace) -> None:
    """Print a line for everything that happens in a run, until it has ended; a failed one is an error."""
    with _linked(options) as link:
        cursor = ""
        while True:
            query: dict[str, str | int] = {"wait": _LOOK, **({"after": cursor} if cursor else {})}
            told = link.get(_at(options.wanted, "events"), seconds=_LOOK, **query)
            for one in _items(told):
                say(_line(one))
            before, cursor = cursor, str(told.get("cursor") or cursor)
            if cursor == before or not _items(told):
                run = link.get(_at(options.wanted))
                if run.get("state") in ENDED:
                    return _end(run)


def _line(one: Mapping[str, Any]) -> str:
    at, step = one.get("at"), one.get("step")
    clock = time.strftime("%H:%M:%S", time.localtime(float(at) / 1000)) if is_number(at) and at else ""
    detail = ", ".join(f"{name} {value}" for name, value in _object(one, "detail").items() if name != "digest")
    where = f" step {step}" if isinstance(step, int) and step >= 0 else ""
    return f"{clock} {one.get('who')}: {one.get('kind')}{where}{f' ({detail[:200]})' if detail else ''}"


def _end(run: Mapping[str, Any]) -> None:
    if run.get("state") != "completed":
        why = ": ".join(str(run[name])[:300] for name in ("reason", "detail") if run.get(name))
        raise ServiceError(f"the run has {run.get('state')}{f' ({why})' if why else ''}")
    say("the run is completed; each site has its results, and the service has the models")
