"""A store in one SQLite file, for the embedded service: any number of threads and processes of one machine.

Every `write` is one transaction that takes the lock at its beginning, so two that decide upon the same row never both
believe what they read. The journal is a write-ahead log that is forced to the disk at its checkpoints: a process that
is killed loses nothing, and a power cut only the last changes, all of each and in their order.

Small files may lie in the same file, see `Shelf`: what a row speaks of is then never lost before the row.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from computation.errors import ServiceError
from service.logged import begin_log, made_private
from service.protocol.codec import KINDS, dump, kind_of, load
from service.protocol.records import Answer, Event, Membership, Presence, Record, Run, Session, Step, Update, Upload
from service.store.base import Change, Contended, Create, Drop, Hold, Page, Put, Replace, StoreBroken, cut

__all__ = ["Shelf", "SqliteStore"]

R = TypeVar("R", bound=Record)

log = logging.getLogger(__name__)

#: "CXSV": tells this file from other SQLite files.
_APPLICATION = 0x43585356
_VERSION = 1
#: Milliseconds that a change waits for those of others.
_PATIENCE = 20_000
#: Pages in the log after which they are brought into the file: those of single updates are overwritten in every step.
_PAGES = 4_000

#: The columns by which each kind of record is found; the rest is its text.
_KEYS: Mapping[str, Sequence[str]] = {
    "run": ("id",),
    "membership": ("run", "subject"),
    "presence": ("run", "subject"),
    "step": ("run", "number"),
    "upload": ("run", "step", "site", "id"),
    "update": ("run", "step", "site"),
    "event": ("run", "id"),
    "answer": ("subject", "route", "name"),
    "session": ("id",),
}
#: Columns beside them that something is looked for by.
_MORE: Mapping[str, Sequence[str]] = {
    "run": ("version",),
    "membership": ("version",),
    "step": ("version", "active"),
    "upload": ("expires",),
    "answer": ("expires",),
    "session": ("version", "expires"),
}
_WHOLE = ("version", "active", "expires")
_INDICES = (
    "CREATE INDEX IF NOT EXISTS membership_by_subject ON membership (subject, run)",
    "CREATE INDEX IF NOT EXISTS step_active ON step (run, number) WHERE active = 1",
)


def _columns(kind: str) -> list[str]:
    return [*_KEYS[kind], *_MORE.get(kind, ()), "body"]


def _schema() -> Iterator[str]:
    """Yield what makes the tables that are missing: all of a new file, or those that it was made without."""
    for kind in KINDS:
        # `update` is a word of SQL's, so all names are quoted.
        columns = [f'"{name}" {"INTEGER" if name in _WHOLE else "TEXT"} NOT NULL' for name in _columns(kind)]
        key = ", ".join(f'"{name}"' for name in _KEYS[kind])
        yield f'CREATE TABLE IF NOT EXISTS "{kind}" ({", ".join(columns)}, PRIMARY KEY ({key})) STRICT, WITHOUT ROWID'
    yield from _INDICES
    yield 'CREATE TABLE IF NOT EXISTS "file" ("key" TEXT NOT NULL PRIMARY KEY, "content" BLOB NOT NULL) STRICT'


@lru_cache
def _upsert(kind: str, verb: str) -> str:
    names = [f'"{name}"' for name in _columns(kind)]
    return f'{verb} INTO "{kind}" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'


@lru_cache
def _where(kind: str) -> str:
    return " AND ".join(f'"{name}" = ?' for name in _KEYS[kind])


class SqliteStore:
    """See `Store`.

    Parameters
    ----------
    path : Path
        The file; made if missing, readable by its owner alone.

    Raises
    ------
    StoreBroken
        If it cannot be opened, is another program's, or was written by a newer version of this one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._local = threading.local()
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._open: list[sqlite3.Connection] = []
        with _broken():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made_private(self._path)
            self._path.chmod(0o600)
            self._prepare(self._connection)
        self.shelf = Shelf(self)

    @property
    def _connection(self) -> sqlite3.Connection:
        """This thread's own connection."""
        held = getattr(self._local, "connection", None)
        if held is None:
            held = sqlite3.connect(self._path, timeout=_PATIENCE / 1000, isolation_level=None, check_same_thread=False)
            held.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
            held.execute("PRAGMA synchronous = NORMAL")
            held.execute(f"PRAGMA wal_autocheckpoint = {_PAGES}")
            self._local.connection = held
            with self._lock:
                self._open.append(held)
        return held

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # All that is read is of one moment, though another process may be about to make the file.
        connection.execute("BEGIN")
        try:
            self._check(connection)
        finally:
            connection.execute("ROLLBACK")
        begin_log(connection, _PATIENCE / 1000)
        connection.execute("BEGIN IMMEDIATE")
        try:
            empty = self._check(connection) == 0
            for statement in _schema():
                connection.execute(statement)
            if empty:
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _check(self, connection: sqlite3.Connection) -> int:
        """Return the version of what is in the file, 0 where it is empty."""
        application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application != _APPLICATION and (tables or version):
            raise StoreBroken("the service's store is another program's file; name another folder", str(self._path))
        if version > _VERSION:
            raise StoreBroken(
                f"the service's store is of version {version}; this program knows {_VERSION}: update the program, or "
                "name another folder",
                str(self._path),
            )
        return version

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let all that this thread changes inside happen or nothing; others are kept out from the first change on."""
        with _Changes() as changes:
            self._local.changes = changes
            try:
                yield
            finally:
                self._local.changes = None
        for act in changes.following:
            try:
                act()
            except ServiceError as error:
                log.warning("what was to follow a change has failed: %s", error.public)

    def then(self, act: Callable[[], None]) -> None:
        """Do something when what this thread has changed so far is kept, which may be at the end of `together`."""
        changes: _Changes | None = getattr(self._local, "changes", None)
        if changes is None:
            act()
        else:
            changes.following.append(act)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for changes that all happen or none."""
        changes: _Changes | None = getattr(self._local, "changes", None)
        if changes is None:
            with self._begun() as connection:
                yield connection
            return
        with _broken():
            if changes.connection is None:
                changes.connection = changes.enter_context(self._begun())
            if not changes.connection.in_transaction:
                raise sqlite3.OperationalError("a change before this one has failed, and took all of them back")
            with _taken_back(changes.connection):
                yield changes.connection

    @contextmanager
    def _begun(self) -> Iterator[sqlite3.Connection]:
        with _broken(), self._alone():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            with _taken_back(connection):
                yield connection
                connection.execute("COMMIT")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let threads change one after the other: SQLite itself looks for its lock only every few milliseconds."""
        if not self._turn.acquire(timeout=_PATIENCE / 1000):
            raise sqlite3.OperationalError("another thread holds the database")
        try:
            yield
        finally:
            self._turn.release()

    def query(self, sql: str, *values: object) -> list[Any]:
        """Return the rows of one statement."""
        with _broken():
            return self._connection.execute(sql, values).fetchall()

    def write(self, *changes: Change) -> None:
        """See `Store`."""
        rows = [(change, kind_of(change.record), change.record.key) for change in changes]
        texts = [dump(change.record) for change in changes]
        with self.transaction() as connection:
            for (change, kind, key), text in zip(rows, texts, strict=True):
                if isinstance(change, Replace | Hold):
                    _expect(connection, kind, key, change.record.version - isinstance(change, Replace))
                _make(connection, change, kind, key, text)

    def _one(self, kind: type[R], name: str, *key: object) -> R | None:
        rows = self.query(f'SELECT "body" FROM "{name}" WHERE {_where(name)}', *key)
        return load(kind, rows[0][0]) if rows else None

    def _all(self, kind: type[R], name: str, condition: str, *values: object) -> tuple[R, ...]:
        return tuple(load(kind, body) for (body,) in self.query(f'SELECT "body" FROM "{name}" {condition}', *values))

    def run(self, id: str) -> Run | None:
        """See `Store`."""
        return self._one(Run, "run", id)

    def runs(self, after: str, limit: int) -> Page[Run]:
        """See `Store`."""
        found = self._all(Run, "run", "WHERE ? = '' OR id < ? ORDER BY id DESC LIMIT ?", after, after, limit + 1)
        return cut(found, limit, lambda run: run.id)

    def membership(self, run: str, subject: str) -> Membership | None:
        """See `Store`."""
        return self._one(Membership, "membership", run, subject)

    def memberships(self, run: str) -> tuple[Membership, ...]:
        """See `Store`."""
        return self._all(Membership, "membership", "WHERE run = ? ORDER BY subject", run)

    def memberships_of(self, subject: str, after: str, limit: int) -> Page[Membership]:
        """See `Store`."""
        condition = "WHERE subject = ? AND (? = '' OR run < ?) ORDER BY run DESC LIMIT ?"
        found = self._all(Membership, "membership", condition, subject, after, after, limit + 1)
        return cut(found, limit, lambda one: one.run)

    def presences(self, run: str) -> tuple[Presence, ...]:
        """See `Store`."""
        return self._all(Presence, "presence", "WHERE run = ? ORDER BY subject", run)

    def step(self, run: str, number: int) -> Step | None:
        """See `Store`."""
        return self._one(Step, "step", run, f"{number:010d}")

    def steps(self, run: str, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        found = self._all(Step, "step", "WHERE run = ? AND number > ? ORDER BY number LIMIT ?", run, after, limit + 1)
        return cut(found, limit, lambda step: step.key[1])

    def active(self, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        run, _, number = after.partition("/")
        condition = "WHERE active = 1 AND (run, number) > (?, ?) ORDER BY run, number LIMIT ?"
        found = self._all(Step, "step", condition, run, number, limit + 1)
        return cut(found, limit, lambda step: "/".join(step.key))

    def update(self, run: str, step: int, site: str) -> Update | None:
        """See `Store`."""
        return self._one(Update, "update", run, f"{step:010d}", site)

    def updates(self, run: str, step: int) -> tuple[Update, ...]:
        """See `Store`."""
        return self._all(Update, "update", "WHERE run = ? AND step = ? ORDER BY site", run, f"{step:010d}")

    def upload(self, run: str, step: int, site: str, id: str) -> Upload | None:
        """See `Store`."""
        return self._one(Upload, "upload", run, f"{step:010d}", site, id)

    def uploads(self, run: str, step: int) -> tuple[Upload, ...]:
        """See `Store`."""
        return self._all(Upload, "upload", "WHERE run = ? AND step = ? ORDER BY site, id", run, f"{step:010d}")

    def events(self, run: str, after: str, limit: int) -> Page[Event]:
        """See `Store`."""
        found = self._all(Event, "event", "WHERE run = ? AND id > ? ORDER BY id LIMIT ?", run, after, limit)
        return found, found[-1].id if found else after

    def answer(self, subject: str, route: str, name: str) -> Answer | None:
        """See `Store`."""
        return self._one(Answer, "answer", subject, route, name)

    def session(self, id: str) -> Session | None:
        """See `Store`."""
        return self._one(Session, "session", id)

    def forget(self, run: str) -> None:
        """See `Store`."""
        with self.transaction() as connection:
            for kind, key in _KEYS.items():
                if "run" in key:
                    connection.execute(f'DELETE FROM "{kind}" WHERE run = ?', (run,))
            connection.execute('DELETE FROM "run" WHERE id = ?', (run,))

    def sweep(self, now: int) -> None:
        """See `Store`."""
        with self.transaction() as connection:
            for kind in ("upload", "answer", "session"):
                connection.execute(f'DELETE FROM "{kind}" WHERE expires < ?', (now,))

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()


class _Changes(ExitStack):
    """The changes of `together`, the connection with which they are made, once there is one, and what follows them."""

    connection: sqlite3.Connection | None = None

    def __init__(self) -> None:
        super().__init__()
        self.following: list[Callable[[], None]] = []


class Shelf:
    """Small files in the same SQLite file, by key; a change of one is on the disk before any later row is."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def get(self, key: str) -> bytes | None:
        """Return a file, if it is there."""
        rows = self._store.query('SELECT "content" FROM "file" WHERE "key" = ?', key)
        return bytes(rows[0][0]) if rows else None

    def put(self, key: str, content: bytes) -> bool:
        """Keep a file, if there is none under its key yet; tell whether there was none."""
        with self._store.transaction() as connection:
            made = connection.execute('INSERT OR IGNORE INTO "file" ("key", "content") VALUES (?, ?)', (key, content))
            return made.rowcount == 1

    def then(self, act: Callable[[], None]) -> None:
        """Do something when what was changed so far is kept."""
        self._store.then(act)

    def delete(self, key: str) -> None:
        """Forget a file, if it is there."""
        with self._store.transaction() as connection:
            connection.execute('DELETE FROM "file" WHERE "key" = ?', (key,))

    def delete_under(self, prefix: str) -> None:
        """Forget all files whose keys begin with this and a '/'."""
        with self._store.transaction() as connection:
            # '0' is the character after '/'.
            connection.execute('DELETE FROM "file" WHERE "key" > ? AND "key" < ?', (f"{prefix}/", f"{prefix}0"))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _values(record: Record, kind: str, key: Sequence[str], text: str) -> list[Any]:
    return [*key, *(int(getattr(record, name)) for name in _MORE.get(kind, ())), text]


def _expect(connection: sqlite3.Connection, kind: str, key: Sequence[str], version: int) -> None:
    row = connection.execute(f'SELECT "version" FROM "{kind}" WHERE {_where(kind)}', key).fetchone()
    if row is None or row[0] != version:
        raise Contended("the record has changed since it was read")


def _make(connection: sqlite3.Connection, change: Change, kind: str, key: Sequence[str], text: str) -> None:
    if isinstance(change, Create):
        made = connection.execute(_upsert(kind, "INSERT OR IGNORE"), _values(change.record, kind, key, text))
        if made.rowcount != 1:
            raise Contended("there is such a record already")
    elif isinstance(change, Replace | Put):
        connection.execute(_upsert(kind, "INSERT OR REPLACE"), _values(change.record, kind, key, text))
    elif isinstance(change, Drop):
        connection.execute(f'DELETE FROM "{kind}" WHERE {_where(kind)}', key)


@contextmanager
def _taken_back(connection: sqlite3.Connection) -> Iterator[None]:
    """Take back what was changed, if anything fails."""
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _broken() -> Iterator[None]:
    """Say in one way what SQLite and the file system say in many."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreBroken(
            "the service's store cannot be read or written; free some space, mend its rights, or end who holds it",
            str(error),
        ) from error
