"""The platform's `provision_input.json`, of each form that exists: `users`, or `user_ids` and `active_participants`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.checks import parse_json
from computation.errors import SettingsError
from neuroflame import parameters

__all__ = ["Consortium", "read"]

_LONGEST = 4 * 2**20
#: What NVFlare takes for a site's name and a certificate for a subject.
_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_RESERVED = ("server", "centralNode", "admin")


@dataclass(frozen=True)
class Consortium:
    """Who takes part in a run, and where its centre is.

    Attributes
    ----------
    names : dict of str
        Each site's display name by its id.
    parameters : dict
        The leader's, checked; with the names.
    host : str
        Name or address of the centre.
    port : int
        The one port of NVFlare 2.8.
    """

    names: dict[str, str]
    parameters: dict[str, Any]
    host: str
    port: int


def read(path: Path) -> Consortium:
    """Read and check what the platform wrote.

    Raises
    ------
    SettingsError
        Saying what is missing or wrong.
    """
    try:
        with path.open("rb") as file:
            raw = parse_json(file.read(_LONGEST))
    except OSError as error:
        raise SettingsError("provision_input.json is missing or cannot be read", str(error)) from error
    except ValueError as error:
        raise SettingsError(f"provision_input.json is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise SettingsError("provision_input.json holds no object")
    names = _members(raw)
    told = _parameters(raw.get("computation_parameters", {}))
    told[parameters.NAMES] = names
    parameters.check(told)
    if "admin_port" in raw:  # of the older form; NVFlare 2.8 has no such port
        _port(raw, "admin_port")
    return Consortium(names, told, _host(raw), _port(raw, "fed_learn_port"))


def _members(raw: Mapping[str, Any]) -> dict[str, str]:
    users = raw.get("users")
    if users is None:
        users = _older(raw)
    if not isinstance(users, list) or not all(isinstance(user, dict) for user in users) or not users:
        raise SettingsError("provision_input.json names no members; wanted a list 'users' of objects with id and name")
    pairs = [(user.get("id"), user.get("name")) for user in users]
    for site, name in pairs:
        if not isinstance(site, str) or not _ID.fullmatch(site) or site in _RESERVED:
            raise SettingsError(
                f"a member's id is {_shown(site)}; wanted up to 63 letters, digits, '-' or '_', and none of "
                f"{', '.join(_RESERVED)}"
            )
        if not isinstance(name, str) or not name.strip():
            raise SettingsError(f"member {site} has a blank name; wanted a text")
    return _once(pairs)


def _older(raw: Mapping[str, Any]) -> Any:
    """Return the members as the newer form has them."""
    ids, people = raw.get("user_ids"), raw.get("active_participants", [])
    if not isinstance(ids, list) or not isinstance(people, list) or not all(isinstance(one, dict) for one in people):
        return None
    known = {one.get("participantId", one.get("userId")): one.get("displayName") for one in people if _has_id(one)}
    return [{"id": site, "name": known.get(site, site) if isinstance(site, str) else ""} for site in ids]


def _has_id(one: Mapping[str, Any]) -> bool:
    return isinstance(one.get("participantId", one.get("userId")), str)


def _once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    for what, values in (("id", [site for site, _ in pairs]), ("name", [name for _, name in pairs])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise SettingsError(f"two members have the {what} {_shown(twice[0])}; wanted each its own")
    return dict(pairs)


def _parameters(raw: Any) -> dict[str, Any]:
    if isinstance(raw, str):
        try:
            raw = parse_json(raw)
        except ValueError as error:
            raise SettingsError(f"'computation_parameters' is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise SettingsError("'computation_parameters' is no object; wanted settings by name")
    return dict(raw)


def _host(raw: Mapping[str, Any]) -> str:
    host = raw.get("host_identifier")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise SettingsError(f"'host_identifier' is {_shown(host)}; wanted the centre's host name or IPv4 address")
    return host


def _port(raw: Mapping[str, Any], name: str) -> int:
    port = raw.get(name)
    if type(port) is not int or not 1 <= port <= 65535:
        raise SettingsError(f"{name!r} is {_shown(port)}; wanted a port from 1 to 65535")
    return port


def _shown(value: Any) -> str:
    return repr(value)[:60]
