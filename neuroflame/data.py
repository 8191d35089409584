"""What a member mounted: a folder with one scan database, and perhaps a model to start from and a `member.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from computation.checks import parse_json
from computation.errors import SettingsError
from computation.files import plain
from computation.settings import Member, options, parse

__all__ = ["MEMBER", "resolve"]

#: A member's own settings, if it has any: `device`, `wandb`, or `data` where there are several databases.
MEMBER = "member.json"
_MAGIC = b"SQLite format 3\0"
_LONGEST = 2**16


def resolve(folder: Path, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """Find what a site trains on.

    Parameters
    ----------
    folder : Path
        The mounted data folder, or a scan database itself.
    settings : mapping
        The leader's.

    Returns
    -------
    tuple of dict and dict
        The member's settings, and the files that they name, by name.

    Raises
    ------
    SettingsError
        If there is no database or more than one, or `member.json` holds something else than a member's settings.
    """
    if folder.is_file():
        return {"data": [folder.name]}, {folder.name: folder}
    member = _member(folder / MEMBER)
    if "data" not in member and "data_csv" not in member:
        member["data"] = [_database(folder), *(_model(folder) if settings.get("initial_model") else ())]
    _, checked = parse({**settings, **member})
    return member, {name: _within(folder, name) for name in (*checked.data, *checked.data_csv)}


def _member(path: Path) -> dict[str, Any]:
    try:
        with plain(path) as file:
            raw = parse_json(file.read(_LONGEST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{MEMBER} in the data folder cannot be read as JSON", str(error)) from error
    if not isinstance(raw, dict) or not set(raw) <= set(options(Member)):
        raise SettingsError(f"{MEMBER} in the data folder holds something else than {', '.join(options(Member))}")
    return raw


def _database(folder: Path) -> str:
    found = sorted(path.name for path in _files(folder) if _is_database(path))
    if len(found) != 1:
        raise SettingsError(
            f"the data folder holds {len(found)} SQLite files; wanted the one scan database of this site, or a "
            f"{MEMBER} whose 'data' names it",
            ", ".join(found),
        )
    return found[0]


def _model(folder: Path) -> list[str]:
    """Return the names of the one exported model that lies in the folder, or none."""
    cards = sorted(path.name for path in _files(folder) if path.suffix == ".json" and path.name != MEMBER)
    pairs = [name for name in cards if (folder / name).with_suffix(".safetensors").is_file()]
    return [pairs[0], Path(pairs[0]).with_suffix(".safetensors").name] if len(pairs) == 1 else []


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise SettingsError("the data folder is missing or cannot be read; mount it", str(error)) from error


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _within(folder: Path, name: str) -> Path:
    path = folder / name
    if ".." in Path(name).parts or not path.is_relative_to(folder):
        raise SettingsError("a file of this site lies outside its data folder; put it there and give its name", name)
    return path
