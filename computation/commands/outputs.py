"""Files that appear whole or not at all, for commands."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computation.cells import cell
from computation.errors import MeshNetError
from computation.files import replacing

__all__ = ["table_text", "write", "write_json", "write_table"]


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
        raise MeshNetError("an output file cannot be written; check folder and free space", str(error)) from error


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON; raises `MeshNetError` as `write`."""
    write(path, json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> None:
    """Write a table; `None` becomes an empty cell. Raises `MeshNetError` as `write`."""
    write(path, table_text(columns, rows, separator).encode())


def table_text(columns: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    """Return a table as text; fractions have six significant digits, which is more than any of them means."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_shown(value) for value in row] for row in rows])
    return text.getvalue()


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cell(value)
