"""inputspec.json, read as coinstac-simulator reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from computation.errors import SimulatorError
from computation.wire.reader import MANY

__all__ = ["Spec", "by_client", "fulfil", "inputs_beside", "read"]

#: `{variable: {"value": ...}}`, or one such object for each site.
Spec: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def read(path: Path) -> Spec:
    """Read an inputspec file.

    Raises
    ------
    SimulatorError
        If there is none, or if it is not JSON.
    """
    try:
        # As bytes: JSON tells UTF-8 from UTF-16, with a byte order mark or without, by how its text begins.
        spec: Spec = json.loads(path.read_bytes())
    except OSError as error:
        raise SimulatorError("the inputspec cannot be read; give the path of an inputspec.json", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise SimulatorError("the inputspec is not JSON", f"{path}: {error}") from error
    return spec


def fulfil(spec: Spec, sites: int | None = None) -> tuple[dict[str, Any], ...]:
    """Return the input of each site's first call.

    Parameters
    ----------
    spec : list or dict
        One object for each site, or one object that every site gets, also as a list of one.
    sites : int, optional
        Number of sites; by default the length of the list, or one.

    Raises
    ------
    SimulatorError
        If the spec has another form, a value that is no JSON, or fewer entries than sites.
    """
    entries = [spec] if isinstance(spec, Mapping) else spec
    if not isinstance(entries, list | tuple) or not entries:
        raise SimulatorError("the inputspec is neither an object nor a list of objects with one entry for each site")
    wanted = len(entries) if sites is None else sites
    if not 1 <= wanted <= MANY:
        raise SimulatorError(f"the run would have {wanted} sites; wanted from 1 to {MANY} sites")
    if len(entries) == 1:
        return (_values(entries[0]),) * wanted
    if wanted > len(entries):
        raise SimulatorError(f"the inputspec has {len(entries)} entries; wanted one for each of {wanted} sites")
    return tuple(_values(entry) for entry in entries[:wanted])


def _values(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise SimulatorError(f"an entry of the inputspec is {type(entry).__name__}; wanted an object of variables")
    for name, variable in entry.items():
        if not isinstance(variable, Mapping) or "value" not in variable:
            raise SimulatorError(f"variable {name!r} of the inputspec has no value; wanted {{'value': ...}}")
        _check(name, variable["value"])
    return {name: variable["value"] for name, variable in entry.items()}


def by_client(tasks: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return each site's inputs by its client id, numbered as coinstac-simulator does."""
    return {f"local{index}": task for index, task in enumerate(tasks)}


def _check(name: Any, value: Any) -> None:
    """Refuse what Python's JSON has and the platform's has not: NaN, infinities, and numbers that overflow to them."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise SimulatorError(
            f"variable {name!r} of the inputspec has a value that is no JSON; wanted finite numbers, texts, true, "
            "false, null, and lists and objects of them",
            str(error),
        ) from error


def inputs_beside(spec: Path) -> Path:
    """Return the input folder that goes with an inputspec, in coinstac-simulator's places."""
    places = [spec.parent / "test" / "input", spec.parent / "input"]
    for place in places:
        if place.is_dir():
            return place
    raise SimulatorError(
        "there is no test/input or input folder beside the inputspec; name one with --input", str(spec)
    )
