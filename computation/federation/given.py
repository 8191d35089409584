"""The files that a member names: one scan database, and at a site that brings it, the model to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from computation.errors import SettingsError
from computation.settings import Member
from computation.wire import payload

__all__ = ["Given", "given"]

_MODEL = (".json", ".safetensors")


@dataclass(frozen=True)
class Given:
    """Where a site's files lie.

    Attributes
    ----------
    database : Path
        Its scans.
    model : Path or None
        The JSON of an exported model, whose tensors lie beside it.
    """

    database: Path
    model: Path | None


def given(base: Path, member: Member) -> Given:
    """Find what a member named in the folder that the platform made for it.

    Parameters
    ----------
    base : Path
        COINSTAC's `baseDirectory`.
    member : Member
        Its settings.

    Raises
    ------
    SettingsError
        If it named not exactly one database, not one model or half of one, a name that is reserved, or a place
        outside the folder: a file of the same name inside is not the one that was meant.
    """
    paths = [_inside(base, name) for name in member.data or member.data_csv]
    databases = [path for path in paths if path.suffix not in _MODEL]
    cards = [path for path in paths if path.suffix == ".json"]
    if len(databases) != 1:
        raise SettingsError(
            f"setting 'data' names {len(databases)} files besides a model's; wanted this site's one scan database"
        )
    if len(cards) > 1 or len(paths) != 1 + 2 * len(cards):
        raise SettingsError("setting 'data' names half a model or several; wanted its one .json and its .safetensors")
    return Given(databases[0], cards[0] if cards else None)


def _inside(base: Path, name: str) -> Path:
    if Path(name).name.startswith(payload.PREFIX):
        raise SettingsError(f"a file's name begins with {payload.PREFIX!r}, which is reserved; rename it")
    path = base / name  # an absolute name stays what it is
    if ".." in Path(name).parts or not path.is_relative_to(base):
        text = "setting 'data' names a place outside this site's input folder; put the file there and give its name"
        raise SettingsError(text, f"{name} is not in {base}")
    return path
