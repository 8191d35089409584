"""What the consortium's owner and each member may set, as one frozen, validated record.

Every input of the computation is declared once, in the two dataclasses of `record`: its default, range and sentence of
help live in the field's metadata. `computation.coinstac.compspec` turns the same declarations into COINSTAC's
`compspec.json`. The platform applies no defaults and checks nothing, so both happen here, at each site, on the first
iteration.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from computation.errors import SettingsError
from computation.settings.option import Option
from computation.settings.record import (
    MODELS,
    RULES,
    SITE,
    USUAL_BATCHES,
    Member,
    Settings,
    differences,
    options,
)
from computation.settings.together import check_together

__all__ = ["MODELS", "RULES", "USUAL_BATCHES", "Member", "Option", "Settings", "differences", "options", "parse"]


def parse(inputs: Mapping[str, Any]) -> tuple[Settings, Member]:
    """Turn a site's raw inputs into the owner's and the member's settings.

    Parameters
    ----------
    inputs : mapping
        COINSTAC's `input` of the first iteration: one JSON value for each variable; missing ones take their default.

    Returns
    -------
    tuple of Settings and Member

    Raises
    ------
    SettingsError
        If a key is unknown, or a value is of the wrong type or out of range.
    """
    owner, member = options(Settings), options(Member)
    for name in inputs:
        if name not in owner and name not in member:
            near = difflib.get_close_matches(str(name), [*owner, *member], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(
                f"unknown setting {str(name)[:40]!r}{hint} (`coinstac-meshnet settings` lists them all)"
            )
    settings = Settings(
        **{name: _clean(name, inputs[name], option) for name, (_, option) in owner.items() if name in inputs}
    )
    check_together(settings)
    return settings, Member(
        **{name: _clean(name, inputs[name], option) for name, (_, option) in member.items() if name in inputs}
    )


_KINDS = {str: "a text", list: "a list", dict: "an object", bool: "true or false", type(None): "null"}


def _clean(name: str, value: Any, option: Option) -> Any:
    try:
        return option.check(value)
    except ValueError as wanted:
        # All sites read this, and what a member typed may be a path, or a key in the wrong place.
        private = option.group == SITE or isinstance(value, dict)
        shown = _KINDS.get(type(value), "a number") if private else repr(value)[:60]
        raise SettingsError(f"setting {name!r} is {shown}; wanted {wanted}") from None
