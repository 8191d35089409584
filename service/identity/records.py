"""What is kept of accounts, sessions, credentials and attempts: one SQLite database, in a file or in memory.

Times are whole milliseconds since 1970, UTC, as everywhere in the service.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from computation.errors import ServiceError
from service.logged import begin_log, made_private

__all__ = ["Account", "Credential", "Records", "Session"]

_VERSION = 1
#: Seconds that a change waits for those of others.
_PATIENCE = 10
_APPLICATION = 0x4D4E6964  # "MNid"


@dataclass(frozen=True)
class Account:
    """Somebody who may log in, or whose site credentials count."""

    sub: str
    name: str
    roles: frozenset[str]
    password: str = field(default="", repr=False)
    disabled: bool = False
    made: int = 0


@dataclass(frozen=True)
class Session:
    """A login: one token renews it, others are good for some minutes each. Tokens are kept as digests."""

    id: str
    sub: str
    refresh: str = field(repr=False)
    made: int
    until: int


@dataclass(frozen=True)
class Credential:
    """A site's own token, kept as its digest."""

    id: str
    sub: str
    label: str
    token: str = field(repr=False)
    made: int
    revoked: bool = False


class Records:
    """The database of identities; any thread may use it, and any number of processes the same file.

    Parameters
    ----------
    path : Path, optional
        The file, made readable by its owner alone where it is missing; nothing for memory.

    Raises
    ------
    ServiceError
        If the file is of a newer version, damaged, or cannot be read or written. So does every method.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        with _told():
            if path is not None:
                made_private(path)
            where = path or ":memory:"
            self._base = sqlite3.connect(where, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._base.close()
            raise

    def _open(self) -> None:
        with _told():
            self._base.execute("PRAGMA foreign_keys = ON")
            begin_log(self._base, _PATIENCE)
        with self.changing():
            version = self._one("PRAGMA user_version")[0]
            if version == 0 and self._one("SELECT count(*) FROM sqlite_master")[0] == 0:
                script = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
                for statement in script.split(";\n"):
                    self._run(statement)
                self._run(f"PRAGMA application_id = {_APPLICATION}")
                self._run(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION or self._one("PRAGMA application_id")[0] != _APPLICATION:
                raise ServiceError(
                    f"the identity database has version {version} or is another's; wanted version {_VERSION}: use the "
                    "software that made it, or give another folder"
                )

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let several steps be one: nobody else writes between them, and a failure takes all of them back."""
        with self._lock, _told():
            if self._base.in_transaction:
                yield
                return
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                self._take_back()
                raise

    def _take_back(self) -> None:
        if self._base.in_transaction:  # a full disk can have ended it already
            self._base.execute("ROLLBACK")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._base.close()

    # Accounts

    def add_account(self, account: Account) -> bool:
        """Keep a new account; tell whether its name was free."""
        row = (*_account_row(account), account.sub)
        sql = "INSERT INTO accounts (name, key, roles, password, disabled, made, sub) VALUES (?, ?, ?, ?, ?, ?, ?)"
        return self._run(f"{sql} ON CONFLICT DO NOTHING", *row) == 1

    def replace_account(self, account: Account) -> None:
        """Keep an account as it is now."""
        sql = "UPDATE accounts SET name = ?, key = ?, roles = ?, password = ?, disabled = ?, made = ? WHERE sub = ?"
        self._run(sql, *_account_row(account), account.sub)

    def replace_password(self, account: Account, password: str) -> bool:
        """Keep another password for an account, if it still has the one that was read; tell whether it had."""
        sql = "UPDATE accounts SET password = ? WHERE sub = ? AND password = ?"
        return self._run(sql, password, account.sub, account.password) == 1

    def account(self, sub: str) -> Account | None:
        """Return an account, if there is one."""
        return next(iter(self._accounts("WHERE sub = ?", sub)), None)

    def account_named(self, name: str) -> Account | None:
        """Return the account of a name, however its letters are written."""
        return next(iter(self._accounts("WHERE key = ?", name.casefold())), None)

    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts by name."""
        return self._accounts("ORDER BY key")

    def _accounts(self, where: str, *values: Any) -> tuple[Account, ...]:
        rows = self._all(f"SELECT sub, name, roles, password, disabled, made FROM accounts {where}", *values)
        return tuple(map(_account, rows))

    # Sessions

    def add_session(self, session: Session) -> None:
        """Keep a new session."""
        row = (session.id, session.sub, session.refresh, session.made, session.until)
        self._run("INSERT INTO sessions (id, sub, refresh, made, until) VALUES (?, ?, ?, ?, ?)", *row)

    def add_access(self, token: str, session: str, until: int, most: int) -> None:
        """Keep the digest of a session's token; beyond so many, those that end first go."""
        with self.changing():
            self._run("INSERT INTO accesses (token, session, until) VALUES (?, ?, ?)", token, session, until)
            spare = "SELECT token FROM accesses WHERE session = ? ORDER BY until DESC, rowid DESC LIMIT -1 OFFSET ?"
            self._run(f"DELETE FROM accesses WHERE token IN ({spare})", session, most)

    def session_renewed_by(self, refresh: str) -> Session | None:
        """Return the session that a token renews."""
        row = self._one("SELECT id, sub, refresh, made, until FROM sessions WHERE refresh = ?", refresh)
        return Session(*row) if row else None

    def session_of(self, access: str) -> Session | None:
        """Return an access token's session, which ends for it when the token does."""
        columns = "id, sub, refresh, made, min(sessions.until, accesses.until)"
        row = self._one(f"SELECT {columns} FROM accesses JOIN sessions ON id = session WHERE token = ?", access)
        return Session(*row) if row else None

    def end_session(self, identity: str) -> None:
        """Forget a session and its tokens."""
        self._run("DELETE FROM sessions WHERE id = ?", identity)

    def end_sessions(self, sub: str) -> None:
        """Forget all sessions of somebody."""
        self._run("DELETE FROM sessions WHERE sub = ?", sub)

    # Credentials

    def add_credential(self, credential: Credential) -> None:
        """Keep a new credential."""
        row = (credential.id, credential.sub, credential.label, credential.token, credential.made)
        sql = "INSERT INTO credentials (id, sub, label, token, made, revoked) VALUES (?, ?, ?, ?, ?, 0)"
        self._run(sql, *row)

    def credential(self, identity: str) -> Credential | None:
        """Return a credential, revoked or not."""
        return next(iter(self._credentials("WHERE id = ?", identity)), None)

    def credential_of(self, token: str) -> tuple[Credential, Account] | None:
        """Return the credential whose token has this digest, and whose it is: every request of a site asks for both."""
        columns = "id, credentials.made, revoked, sub, name, roles, password, disabled, accounts.made, label"
        row = self._one(f"SELECT {columns} FROM credentials JOIN accounts USING (sub) WHERE token = ?", token)
        if row is None:
            return None
        identity, made, revoked, *account, label = row
        holder = _account(account)
        return Credential(identity, holder.sub, label, token, made, bool(revoked)), holder

    def credentials(self, sub: str) -> tuple[Credential, ...]:
        """Return somebody's credentials in the order in which they were made."""
        return self._credentials("WHERE sub = ? ORDER BY id", sub)

    def revoke_credential(self, identity: str) -> None:
        """Let a credential count no more; who had it stays known."""
        self._run("UPDATE credentials SET revoked = 1 WHERE id = ?", identity)

    def _credentials(self, where: str, *values: Any) -> tuple[Credential, ...]:
        rows = self._all(f"SELECT id, sub, label, token, made, revoked FROM credentials {where}", *values)
        return tuple(
            Credential(identity, sub, label, token, made, bool(revoked))
            for identity, sub, label, token, made, revoked in rows
        )

    # Attempts

    def attempts(self, key: str) -> tuple[int, int]:
        """Return how often something failed, and when last."""
        return self._one("SELECT failures, last FROM attempts WHERE key = ?", key) or (0, 0)

    def put_attempts(self, key: str, failures: int, last: int) -> None:
        """Keep how often something failed."""
        sql = "INSERT INTO attempts (key, failures, last) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
        self._run(f"{sql} failures = excluded.failures, last = excluded.last", key, failures, last)

    def sweep(self, now: int, forgotten: int) -> None:
        """Forget what has ended, and attempts whose last is older than some milliseconds."""
        with self.changing():
            self._run("DELETE FROM accesses WHERE until <= ?", now)
            self._run("DELETE FROM sessions WHERE until <= ?", now)
            self._run("DELETE FROM attempts WHERE last <= ? OR failures <= 0", now - forgotten)

    def _run(self, sql: str, *values: Any) -> int:
        with self._lock, _told():
            return self._base.execute(sql, values).rowcount

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._lock, _told(), closing(self._base.execute(sql, values)) as cursor:
            return cursor.fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        with self._lock, _told(), closing(self._base.execute(sql, values)) as cursor:
            return cursor.fetchone()


def _account(row: Sequence[Any]) -> Account:
    sub, name, roles, password, disabled, made = row
    return Account(sub, name, frozenset(roles.split()), password, bool(disabled), made)


def _account_row(account: Account) -> tuple[Any, ...]:
    roles = " ".join(sorted(account.roles))
    return account.name, account.name.casefold(), roles, account.password, account.disabled, account.made


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = "the identity database cannot be read or written; free some space, mend its rights, and try again"
        raise ServiceError(text, str(error)) from error
