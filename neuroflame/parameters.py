"""The leader's `parameters.json`: our settings, and what the platform adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.checks import is_plain_name, parse_json
from computation.errors import SettingsError
from computation.settings import Member, options, parse

__all__ = ["NAMES", "Parameters", "check", "read"]

#: Where the platform puts each site's display name, by its id.
NAMES = "site_id_name_map"
_LONGEST = 2**20


@dataclass(frozen=True)
class Parameters:
    """What a run was told.

    Attributes
    ----------
    settings : dict
        Owner settings, as the leader wrote them.
    names : dict of str
        What each site is called in messages and results, by its id: its display name where all sites have one that is
        theirs alone and makes a folder and a sentence, and the id everywhere otherwise.
    """

    settings: dict[str, Any]
    names: dict[str, str]

    def name(self, site: str) -> str:
        """Return what a site is called."""
        return self.names.get(site, site)


def read(path: Path) -> Parameters:
    """Read a run kit's `parameters.json`.

    Raises
    ------
    SettingsError
        If it is missing, no JSON object, or holds a setting that is unknown, a member's own, or out of range.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise SettingsError(
            "parameters.json is missing from the run kit; provision the run again", str(error)
        ) from error
    if len(text) > _LONGEST:
        raise SettingsError(f"parameters.json is longer than {_LONGEST} bytes; wanted the settings alone")
    try:
        raw = parse_json(text)
    except ValueError as error:
        raise SettingsError(f"parameters.json is not JSON: {error}") from error
    return check(raw)


def check(raw: Any) -> Parameters:
    """Check the leader's parameters, which are a JSON object.

    Raises
    ------
    SettingsError
        As for `read`.
    """
    if not isinstance(raw, dict):
        raise SettingsError("parameters.json holds no object; wanted settings by name")
    settings = {name: value for name, value in raw.items() if name != NAMES}
    own = sorted(set(settings) & set(options(Member)))
    if own:
        raise SettingsError(
            f"setting {own[0]!r} is each member's own; leave it out: members may put it into a member.json in their "
            "data folder"
        )
    parse(settings)
    return Parameters(settings, _names(raw.get(NAMES, {})))


def _names(raw: Any) -> dict[str, str]:
    if not isinstance(raw, Mapping) or not all(isinstance(text, str) for text in (*raw, *raw.values())):
        raise SettingsError(f"{NAMES!r} is no object of texts; wanted each site's name by its id")
    names = dict(raw)
    folded = {name.casefold() for name in names.values()}
    return names if len(folded) == len(names) and all(map(is_plain_name, names.values())) else {}
