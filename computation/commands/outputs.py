"""Files that appear whole or not at all, for commands."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from computation.cells import cell
from computation.errors import MeshNetError
from computation.files import replacing
from computation.locks import locked

__all__ = ["alone", "check_folder", "merge_rows", "read_rows", "table_text", "write", "write_json", "write_table"]

_UNWRITABLE = "an output file cannot be written; check folder and free space"


def write(path: Path, blob: bytes) -> None:
    """Write bytes; the folder is made if missing.

    Raises
    ------
    MeshNetError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(blob)
    except OSError as error:
        raise MeshNetError(_UNWRITABLE, str(error)) from error


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON; raises `MeshNetError` as `write`."""
    write(path, json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> None:
    """Write a table; `None` becomes an empty cell. Raises `MeshNetError` as `write`."""
    write(path, table_text(columns, rows, separator).encode())


def check_folder(folder: Path) -> None:
    """Refuse a folder that takes no file, before anything is computed for it; nothing is made yet.

    Raises
    ------
    MeshNetError
        If it, or the folder that it would be made in, is no folder or may not be written.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise MeshNetError(_UNWRITABLE, str(there))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that changes a file; its folder is made if missing.

    Raises
    ------
    MeshNetError
        If that cannot be had.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path))
        except OSError as error:
            raise MeshNetError(_UNWRITABLE, str(error)) from error
        yield


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table that `merge_rows` wrote; one that is not there has none.

    Raises
    ------
    MeshNetError
        If it cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise MeshNetError(f"{path.name} in the output folder cannot be read; move it away", str(error)) from error
    if rows and rows[0] != list(columns):
        raise MeshNetError(f"{path.name} in the output folder has other columns; move it away", str(path))
    return rows[1:]


def merge_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Put rows into a table, in place of those with the same first cell; the caller is `alone` with it.

    Raises
    ------
    MeshNetError
        As `read_rows` and `write`.
    """
    new = {cell(row[0]) for row in rows}
    kept = [row for row in read_rows(path, columns) if row[0] not in new]
    write_table(path, columns, [*kept, *rows])


def table_text(columns: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    """Return a table as text; fractions have six significant digits, which is more than any of them means."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_shown(value) for value in row] for row in rows])
    return text.getvalue()


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)
