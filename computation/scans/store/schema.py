"""The database file's identity: creating the tables of `schema.sql`, and recognising what kind of file one has."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from computation.errors import StoreError
from computation.scans.store.guarded import LONGEST_CELL, Guarded

__all__ = ["APPLICATION_ID", "DAMAGE", "READABLE", "VERSION", "connect", "create", "tables", "version"]

#: "MNet", in SQLite's header, so that `file` and this software know the file without opening a table.
APPLICATION_ID = 0x4D4E6574

_NOT_TABLES = (
    "the scan database holds more than plain tables (a view, a trigger, a virtual table or a generated column), which "
    "would run on being read; import the scans again"
)
#: How SQLite itself begins the statement that it keeps of each kind.
_MADE = {"table": ("CREATE TABLE ",), "index": ("CREATE INDEX ", "CREATE UNIQUE INDEX ")}

#: What Python's sqlite3 raises for a damaged file; a message that quotes damaged text cannot even be decoded.
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)

#: The schema version that this software writes.
VERSION = 2

#: The schema versions that it reads. `migrate.migrate` turns an older file into a new one.
READABLE = (1, 2)


def connect(path: Path, longest: int = LONGEST_CELL) -> Guarded:
    """Open a SQLite file read-only and immutable: no lock, no journal, also from a read-only mount.

    Parameters
    ----------
    path : Path
        Any path: quotes, blanks and non-ASCII letters travel percent-encoded.

    longest : int
        Characters or bytes that a cell may have.

    Returns
    -------
    Guarded
        May be closed by another thread than the one that opened it.

    Raises
    ------
    StoreError
        If the file is missing, unreadable or not SQLite.
    """
    if not path.is_file():
        raise StoreError("the scan database is missing; check the `data` setting and the site's folder", str(path))
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, factory=Guarded)
    except sqlite3.Error as error:
        raise StoreError("the scan database cannot be opened; check its permissions", f"{path}: {error}") from error
    connection.allow(longest)
    try:
        _examine(connection)
    except StoreError as error:
        connection.close()
        raise StoreError(error.public, f"{path}: {error.private}") from None
    except DAMAGE as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and not connection.overdue:
            raise StoreError("the scan database cannot be read; check its permissions", f"{path}: {error}") from error
        text = "the scan database is not a SQLite file, or is damaged; build it with `coinstac-meshnet import`"
        raise StoreError(text, f"{path}: {error}") from error
    return connection


def _examine(connection: Guarded) -> None:
    """Refuse a file with anything in it that runs when it is read.

    Raises
    ------
    StoreError
        If there is a view, a trigger, a virtual table or a generated column.
    """
    tables = []
    for kind, name, page, made in connection.rows("SELECT type, name, rootpage, sql FROM sqlite_master", most=1000):
        # SQLite goes by the statement, whatever the type beside it says.
        usual = made is None if _is_automatic(name) else isinstance(made, str) and made.startswith(_MADE.get(kind, ()))
        if not usual or not isinstance(page, int) or page <= 0:
            raise StoreError(_NOT_TABLES, f"{kind!r} {name!r}"[:200])
        tables += [name] if kind == "table" else []
    for table in tables:
        if any(hidden for (hidden,) in connection.rows("SELECT hidden FROM pragma_table_xinfo(?)", (table,))):
            raise StoreError(_NOT_TABLES, f"a generated column in {table!r}"[:200])


def _is_automatic(name: object) -> bool:
    return isinstance(name, str) and name.startswith("sqlite_autoindex_")


def version(connection: Guarded) -> int | None:
    """Return the schema version of one of our databases, or None for any other SQLite file.

    Raises
    ------
    StoreError
        If the file is ours but of a version that this software does not read.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return None
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found not in READABLE:
        todo = "update this software" if found > VERSION else "import the scans again"
        known = " and ".join(map(str, READABLE))
        raise StoreError(f"the scan database has schema version {found}, this software reads {known}; {todo}")
    return found


def tables(connection: Guarded) -> tuple[str, ...]:
    """Return the names of all tables, sorted."""
    rows = connection.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return tuple(str(name) for (name,) in rows)


def create(connection: sqlite3.Connection) -> None:
    """Make an empty database's tables and write its identity."""
    connection.executescript(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
