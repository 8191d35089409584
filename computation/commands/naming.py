"""What a scan's results are called: after its file, and never after another scan's results in the same folder."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SOURCE", "name_in", "names_of", "result"]

#: Where a result's sidecar says which scan it is of: the SHA-256 of the scan's file, and never its path.
SOURCE = "SourceSHA256"

_ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh", ".img.gz", ".img", ".hdr")
_RESULTS = (".json", ".nii.gz", ".tsv", ".png")


def result(folder: Path, name: str, ending: str) -> Path:
    """Return the path of one file of a scan's results."""
    return folder / f"{name}_dseg{ending}"


def names_of(paths: Sequence[Path]) -> list[str]:
    """Name the outputs: each file's stem, with its folders where stems alone are not unique, then with a number.

    Examples
    --------
    >>> names_of([Path("sub-1/T1.nii.gz"), Path("sub-2/T1.nii.gz")])
    ['sub-1_T1', 'sub-2_T1']
    """
    names = [_stem(path) for path in paths]
    for depth in (1, 2, 3):
        counts = Counter(names)
        names = [
            _longer(path, name, depth) if counts[name] > 1 else name for path, name in zip(paths, names, strict=True)
        ]
    counts = Counter(names)
    return [f"{name}_{place + 1}" if counts[name] > 1 else name for place, name in enumerate(names)]


def name_in(folder: Path, name: str, path: Path, checksum: str) -> str:
    """Return the name of a scan's results in a folder: theirs from before, or the first that no other scan's bear.

    Parameters
    ----------
    folder : Path
        Where the results go; to be locked by the caller until one of them is there.
    name : str
        What they should be called, from `names_of`.
    path : Path
        The scan, whose folders make a longer name where another scan's results have this one.
    checksum : str
        Its SHA-256. Results of unknown origin, a person's own label map for instance, are another scan's.

    Returns
    -------
    str
        `name`, or that with one to three of the scan's folders in front, or with a number behind.
    """
    longer = [name]
    for depth in (1, 2, 3):
        longer.append(_longer(path, longer[-1], depth))
    if own := [one for one in longer if _holder(folder, one) == checksum]:
        return own[0]
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(longer, numbered) if _holder(folder, one) in (None, checksum))


def _holder(folder: Path, name: str) -> str | None:
    """Return the checksum of the scan whose results have a name, "" if nobody knows, None if the name is free."""
    # A link that leads nowhere is somebody's, too.
    if not any(os.path.lexists(result(folder, name, ending)) for ending in _RESULTS):
        return None
    try:
        record = json.loads(result(folder, name, ".json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return str(record.get(SOURCE, "")) if isinstance(record, dict) else ""


def _longer(path: Path, name: str, depth: int) -> str:
    # Links are not followed: DataLad's scans are links into folders that are named by checksums.
    parents = Path(os.path.abspath(path)).parents  # noqa: PTH100
    folder = parents[depth - 1].name if depth <= len(parents) else ""
    return f"{folder}_{name}" if folder else name


def _stem(path: Path) -> str:
    ending = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)] or path.name
