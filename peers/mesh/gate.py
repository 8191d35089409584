"""Who may give data away: nobody, unless the owner and every member say so, and never a database of people."""

from __future__ import annotations

from pathlib import Path

from computation.errors import PeersError

__all__ = ["refuse_people", "require_consent"]

_SQLITE = b"SQLite format 3\x00"
#: Formats in which scans of people lie.
_SCANS = (".nii", ".nii.gz", ".mgz", ".mgh", ".dcm", ".img", ".hdr", ".mnc", ".db", ".sqlite")


def require_consent(owner: bool, member: bool) -> None:
    """Refuse raw data that not both want to be given away; raises `PeersError`."""
    lacking = [name for name, agrees in (("owner", owner), ("member", member)) if not agrees]
    if lacking:
        raise PeersError(
            f"raw data would leave their place, and the {' and the '.join(lacking)} did not agree; this is off by "
            "default: for public or synthetic data the requester says --share-data and the provider --take-data"
        )


def refuse_people(folder: Path) -> None:
    """Refuse a folder that holds a scan database or images of people's formats.

    A database cannot prove that nobody is in it, so none passes, nor does a link that leads elsewhere.

    Raises
    ------
    PeersError
        Naming no file.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise PeersError("a link lies among the data to be shared; wanted plain files", str(path))
        if path.is_file() and (path.name.lower().endswith(_SCANS) or _head(path) == _SQLITE):
            raise PeersError(
                "among the data to be shared are scans or a scan database, which hold people; they never leave their "
                "site: learn from them with `peers run` or on COINSTAC",
                str(path),
            )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))
