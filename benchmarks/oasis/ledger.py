"""A CSV to which several processes add rows, and which a killed one leaves whole."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from computation.tracking import lines


def read(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a CSV; there are none if there is no file."""
    return _parsed(_whole(path.read_bytes()))[1] if path.exists() else []


def append(path: Path, rows: Sequence[Any], key: Sequence[str] = ()) -> None:
    """Add rows, dataclasses or dicts of one kind, so that they are on the disk when this returns.

    A file that lacks some of the columns gets them, empty in its old rows. Several processes may append to one file.

    Parameters
    ----------
    path : Path
        The CSV, made where there is none.
    rows : sequence
        What is added.
    key : sequence of str
        Columns that no two rows may share; with such a row nothing is written.

    Raises
    ------
    ValueError
        If two rows share the key.
    """
    tables = [row if isinstance(row, dict) else asdict(row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        kept = _whole(file.read())
        held, old = _parsed(kept)
        refuse_doubles(path, [*old, *tables], key)
        names = [*held, *(name for name in tables[0] if name not in held)]
        if held and names != held:
            lines.replace(path, _text(names, [*old, *tables], header=True))
            return
        # What a killed run wrote of a line is no line.
        file.truncate(len(kept))
        file.write(_text(names, tables, header=not held).encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file at its beginning, to which no other process appends meanwhile."""
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # While this one waited, another process may have put a new file in its place.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.seek(0)
                yield file
                return


def _whole(content: bytes) -> bytes:
    """Return the whole lines."""
    return content[: content.rfind(b"\n") + 1]


def _parsed(content: bytes) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns and the rows."""
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return list(reader.fieldnames or ()), list(reader)


def _text(names: Sequence[str], rows: Sequence[dict[str, Any]], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def refuse_doubles(path: Path, rows: Sequence[dict[str, Any]], key: Sequence[str]) -> None:
    """Raise a `ValueError` that names the first two rows with the same values in the columns of a key."""
    seen = set()
    for row in rows:
        values = tuple(str(row[name]) for name in key)
        if key and values in seen:
            what = ", ".join(f"{name} {value or 'of all'}" for name, value in zip(key, values, strict=True))
            raise ValueError(f"{path}: two rows of {what}; keep one of them")
        seen.add(values)
