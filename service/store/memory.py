"""A store that ends with its process, for tests and trials; it keeps texts, as the others do, and no objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from service.protocol.codec import dump, kind_of, load
from service.protocol.records import Answer, Event, Membership, Presence, Record, Run, Session, Step, Update, Upload
from service.store.base import Change, Contended, Create, Drop, Hold, Page, Put, Replace, cut

__all__ = ["MemoryStore"]

R = TypeVar("R", bound=Record)
Key = tuple[str, ...]


class MemoryStore:
    """See `Store`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, dict[Key, str]] = {}

    def write(self, *changes: Change) -> None:
        """See `Store`."""
        with self._lock:
            for change in changes:
                self._check(change)
            for change in changes:
                self._make(change)

    def _check(self, change: Change) -> None:
        stored = self._rows.get(kind_of(change.record), {}).get(change.record.key)
        if isinstance(change, Create) and stored is not None:
            raise Contended("there is such a record already")
        if isinstance(change, Replace | Hold):
            wanted = change.record.version - isinstance(change, Replace)
            if stored is None or load(type(change.record), stored).version != wanted:
                raise Contended("the record has changed since it was read")

    def _make(self, change: Change) -> None:
        rows = self._rows.setdefault(kind_of(change.record), {})
        if isinstance(change, Create | Replace | Put):
            rows[change.record.key] = dump(change.record)
        elif isinstance(change, Drop):
            rows.pop(change.record.key, None)

    def _get(self, kind: type[R], name: str, key: Key) -> R | None:
        with self._lock:
            text = self._rows.get(name, {}).get(key)
        return None if text is None else load(kind, text)

    def _all(self, kind: type[R], name: str, prefix: Key = ()) -> list[R]:
        """Return the records whose keys begin so, by key."""
        with self._lock:
            found = [(key, text) for key, text in self._rows.get(name, {}).items() if key[: len(prefix)] == prefix]
        return [load(kind, text) for _, text in sorted(found)]

    def run(self, id: str) -> Run | None:
        """See `Store`."""
        return self._get(Run, "run", (id,))

    def runs(self, after: str, limit: int) -> Page[Run]:
        """See `Store`."""
        found = [run for run in reversed(self._all(Run, "run")) if not after or run.id < after]
        return cut(found, limit, lambda run: run.id)

    def membership(self, run: str, subject: str) -> Membership | None:
        """See `Store`."""
        return self._get(Membership, "membership", (run, subject))

    def memberships(self, run: str) -> tuple[Membership, ...]:
        """See `Store`."""
        return tuple(self._all(Membership, "membership", (run,)))

    def memberships_of(self, subject: str, after: str, limit: int) -> Page[Membership]:
        """See `Store`."""
        found = [one for one in reversed(self._all(Membership, "membership")) if one.subject == subject]
        return cut([one for one in found if not after or one.run < after], limit, lambda one: one.run)

    def presences(self, run: str) -> tuple[Presence, ...]:
        """See `Store`."""
        return tuple(self._all(Presence, "presence", (run,)))

    def step(self, run: str, number: int) -> Step | None:
        """See `Store`."""
        return self._get(Step, "step", (run, f"{number:010d}"))

    def steps(self, run: str, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        found = [step for step in self._all(Step, "step", (run,)) if not after or step.key[1] > after]
        return cut(found, limit, lambda step: step.key[1])

    def active(self, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        found = [step for step in self._all(Step, "step") if step.active and "/".join(step.key) > after]
        return cut(found, limit, lambda step: "/".join(step.key))

    def update(self, run: str, step: int, site: str) -> Update | None:
        """See `Store`."""
        return self._get(Update, "update", (run, f"{step:010d}", site))

    def updates(self, run: str, step: int) -> tuple[Update, ...]:
        """See `Store`."""
        return tuple(self._all(Update, "update", (run, f"{step:010d}")))

    def upload(self, run: str, step: int, site: str, id: str) -> Upload | None:
        """See `Store`."""
        return self._get(Upload, "upload", (run, f"{step:010d}", site, id))

    def uploads(self, run: str, step: int) -> tuple[Upload, ...]:
        """See `Store`."""
        return tuple(self._all(Upload, "upload", (run, f"{step:010d}")))

    def events(self, run: str, after: str, limit: int) -> Page[Event]:
        """See `Store`."""
        found = [event for event in self._all(Event, "event", (run,)) if event.id > after][:limit]
        return tuple(found), found[-1].id if found else after

    def answer(self, subject: str, route: str, name: str) -> Answer | None:
        """See `Store`."""
        return self._get(Answer, "answer", (subject, route, name))

    def session(self, id: str) -> Session | None:
        """See `Store`."""
        return self._get(Session, "session", (id,))

    def forget(self, run: str) -> None:
        """See `Store`."""
        with self._lock:
            for name, rows in self._rows.items():
                for key in [key for key in rows if name not in ("answer", "session") and key[0] == run]:
                    del rows[key]

    def sweep(self, now: int) -> None:
        """See `Store`."""
        for record in self._expired(now):
            self.write(Drop(record))

    def _expired(self, now: int) -> Iterator[Upload | Answer | Session]:
        yield from (upload for upload in self._all(Upload, "upload") if upload.expires < now)
        yield from (answer for answer in self._all(Answer, "answer") if answer.expires < now)
        yield from (session for session in self._all(Session, "session") if session.expires < now)

    def close(self) -> None:
        """See `Store`."""
