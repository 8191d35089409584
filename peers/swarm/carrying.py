"""A full node's part in feeds: it keeps those of the authors that it allows, passes on, and fetches what it missed.

Each message is a content too, and holds the digest of the one before it, which is that one's address: so who hears of a
message that does not follow what it has fetches backwards until it does.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from computation.errors import MeshNetError, MessageError
from peers import cid
from peers.requests import Get, Message, Publish, Put, Request
from peers.swarm.entry import Entry, parsed
from peers.swarm.feed import Log

__all__ = ["TOPIC", "Carrier"]

TOPIC = "feed"
_MOST_WAITING, _MOST_MISSED = 256, 10_000
#: Seconds: for a message that was missed, between looks at the clock, and between tellings of the newest message.
_MISSED, _LOOK, _AGAIN = 10.0, 0.2, 20.0
#: Messages of a feed that others find here after a restart.
_AFTER_RESTART = 1000


class Carrier:
    """Carries feeds, in a thread of its own; a context manager.

    Parameters
    ----------
    log : Log
        Of the authors that are allowed.
    perform : callable
        Performs a request on the network.
    refused : callable
        Is told of who sent what is unsound, and why.
    """

    def __init__(self, log: Log, perform: Callable[[Request], Any], refused: Callable[[str, str], None]) -> None:
        self.log, self.perform, self.refused = log, perform, refused
        self._heard: queue.Queue[Message] = queue.Queue(_MOST_WAITING)
        self._brought: deque[Entry] = deque()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._latest: dict[bytes, bytes] = {}
        self._thread = threading.Thread(target=self._live, name="feeds", daemon=True)

    def __enter__(self) -> Carrier:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_MISSED)

    def hear(self, message: Message) -> None:
        """Take a note from the network; what finds no room comes again."""
        if not self._heard.full():
            self._heard.put_nowait(message)

    def count(self, author: bytes) -> int | None:
        """Return how many messages of a feed are here; nothing where its author is not allowed."""
        with self._lock:
            chain = self.log.chains.get(author)
            return chain.number if chain else None

    def bring(self, blob: bytes) -> None:
        """Take the next message of a feed from its author; raises `MessageError` if it is none."""
        with self._lock:
            self._brought.append(self.log.take(blob))

    def _live(self) -> None:
        for author in self.log.chains:
            for blob in deque(self.log.entries(author), maxlen=_AFTER_RESTART):
                self._quietly(self._keep, parsed(blob))
        told = time.monotonic()
        while not self._ended.is_set():
            with contextlib.suppress(queue.Empty):
                self._take(self._heard.get(timeout=_LOOK))
            while self._brought:
                self._quietly(self._spread, self._brought.popleft())
            if time.monotonic() - told > _AGAIN:
                told = time.monotonic()
                for blob in self._latest.values():
                    self._quietly(self._tell, blob)

    def _quietly(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do what may fail where the node goes off the network, or has no room."""
        try:
            function(*arguments)
        except MeshNetError as error:
            self.refused("", error.public)

    def _take(self, message: Message) -> None:
        try:
            self._follow(parsed(base64.b64decode(message.text, validate=True)), message.sender)
        except binascii.Error:
            self.refused(message.sender, "its message of a feed is not in base 64")
        except MeshNetError as error:
            self.refused(message.sender, error.public)

    def _follow(self, entry: Entry, sender: str) -> None:
        """Go on to a message, by way of those before it that are not here."""
        count, missed = self.count(entry.author), [entry]
        if count is None:
            raise MessageError("a feed's author is not on the list of those who may write; wanted one who is")
        if entry.number - count > _MOST_MISSED:
            raise MessageError(f"{entry.number - count} messages of a feed are missing; wanted at most {_MOST_MISSED}")
        while missed[-1].number > count:
            missed.append(self._before(missed[-1], sender))
        for one in reversed(missed):
            if one.number >= (self.count(one.author) or 0):
                with self._lock:
                    self.log.take(one.whole)
                self._keep(one)

    def _before(self, entry: Entry, sender: str) -> Entry:
        blob = self.perform(Get(cid.of_digest(entry.previous), _MISSED, sender))
        if blob is None:
            raise MessageError(f"message {entry.number - 1} of a feed cannot be had: nobody who holds it answers")
        earlier = parsed(blob)
        if earlier.author != entry.author or earlier.number != entry.number - 1:
            raise MessageError(f"what message {entry.number} of a feed says to be before it is another feed's")
        return earlier

    def _keep(self, entry: Entry) -> None:
        self.perform(Put(entry.whole))
        self._latest[entry.author] = entry.whole

    def _spread(self, entry: Entry) -> None:
        self._keep(entry)
        self._tell(entry.whole)

    def _tell(self, blob: bytes) -> None:
        self.perform(Publish(TOPIC, base64.b64encode(blob).decode()))
