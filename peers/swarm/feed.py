"""A thin feeder's log: written by one author, checked by everybody, read from the message on whose key one has.

A writer needs the standard library and `cryptography`, nothing else: a sensor's computer has no more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from computation.checks import parse_json
from computation.errors import MessageError, PeersError
from computation.files import replacing
from computation.wire.reader import Reader
from peers.swarm.entry import MODES, MOST_BYTES, Entry, message_key, opened, parsed, sealed
from peers.swarm.ratchet import KEY_BYTES, advanced, derived, following

__all__ = ["Chain", "Log", "Ticket", "Writer"]

_NOTHING = bytes(32)


@dataclass(frozen=True)
class Ticket:
    """What lets somebody read a feed from a message on.

    Attributes
    ----------
    author : bytes
        Whose feed.
    number : int
        From which message on.
    key : bytes
        k_t of that message.
    side : bytes
        The side key; in restricted mode it is given away on another path.
    """

    author: bytes
    number: int
    key: bytes
    side: bytes = b""

    def read(self, entry: Entry) -> bytes:
        """Return what a message says; raises `MessageError` if it is of before, or of another feed."""
        if entry.author != self.author:
            raise MessageError("a feed's message is by another author than the key; wanted the same")
        return opened(entry, advanced(self.key, entry.number - self.number), self.side)

    def written(self) -> str:
        """Return it as text, without the side key."""
        return f"{self.author.hex()}:{self.number}:{self.key.hex()}"

    @classmethod
    def parsed(cls, text: str, side: bytes = b"") -> Ticket:
        """Read it again; raises `PeersError` if it is none."""
        try:
            author, number, key = text.strip().split(":")
            ticket = cls(bytes.fromhex(author), int(number), bytes.fromhex(key), side)
        except ValueError:
            raise PeersError("this is no reading key of a feed; wanted AUTHOR:NUMBER:KEY in hexadecimal") from None
        if len(ticket.author) != KEY_BYTES or len(ticket.key) != KEY_BYTES or ticket.number < 0:
            raise PeersError("this is no reading key of a feed; wanted two keys of 32 bytes and a number from 0")
        return ticket


@dataclass
class Writer:
    """The author at work. Each message's key is forgotten when the message is made.

    Attributes
    ----------
    mode : str
        One of `MODES`.
    signer : bytes
        The Ed25519 private key.
    key : bytes
        Of the next message.
    side : bytes
        The side key of restricted mode.
    number : int
        Of the next message.
    previous : bytes
        SHA-256 of the latest one.
    """

    mode: str
    signer: bytes
    key: bytes
    side: bytes = b""
    number: int = 0
    previous: bytes = _NOTHING

    @classmethod
    def new(cls, seed: bytes, mode: str, side: bytes = b"") -> Writer:
        """Begin a feed; all of it follows from the seed, which the owner keeps elsewhere and the writer does not.

        Raises
        ------
        PeersError
            If there is no such mode, the seed is short, or a side key is missing or in the way.
        """
        if mode not in MODES or len(seed) < KEY_BYTES:
            raise PeersError(f"a feed's mode is one of {', '.join(MODES)}, and its seed has {KEY_BYTES} bytes or more")
        if (mode == "restricted") != bool(side):
            raise PeersError("a side key belongs to restricted mode, and only to that")
        key = derived(seed, b"coinstac-meshnet feed: first key of " + mode.encode())
        return cls(mode, derived(seed, b"coinstac-meshnet feed: signing key"), key, side)

    @property
    def ticket(self) -> Ticket:
        """What lets somebody read from the next message on."""
        author = Ed25519PrivateKey.from_private_bytes(self.signer).public_key().public_bytes_raw()
        return Ticket(author, self.number, self.key, self.side)

    def append(self, content: bytes) -> Entry:
        """Make the next message; raises `MessageError` if it is too long."""
        mode = MODES[self.mode]
        key = message_key(mode, self.key, self.side)
        signer = Ed25519PrivateKey.from_private_bytes(self.signer)
        entry = sealed(content, mode, self.number, self.previous, signer, key)
        self.key, self.number, self.previous = following(self.key), self.number + 1, entry.digest
        return entry

    def save(self, path: Path) -> None:
        """Write down where the feed stands, readable by its owner alone."""
        secret = {name: getattr(self, name).hex() for name in ("signer", "key", "side", "previous")}
        with replacing(path) as partial:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump({"mode": self.mode, "number": self.number, **secret}, file)

    @classmethod
    def load(cls, path: Path) -> Writer:
        """Go on with a feed.

        Raises
        ------
        PeersError
            If the file is none of a feed.
        """
        try:
            reader = Reader("feed", parse_json(path.read_bytes()))
            mode, number = reader.one_of("mode", tuple(MODES)), reader.whole("number", 2**53)
            secret = {name: bytes.fromhex(reader.text(name)) for name in ("signer", "key", "side", "previous")}
        except (OSError, ValueError, MessageError) as error:
            raise PeersError(
                "the feed's file cannot be read; wanted one that `swarm feed` wrote", repr(error)
            ) from None
        return cls(mode, number=number, **secret)


@dataclass
class Chain:
    """What a reader has seen of one feed: the next message must follow the latest one.

    Attributes
    ----------
    author : bytes
        Whose feed.
    number : int
        Messages seen.
    previous : bytes
        SHA-256 of the latest.
    """

    author: bytes
    number: int = 0
    previous: bytes = _NOTHING

    def take(self, blob: bytes) -> Entry:
        """Check that a message is the next one, and go on to it.

        Raises
        ------
        MessageError
            If it was altered or forged, or is another author's; if one before it is missing, or it came before.
        """
        entry = parsed(blob)
        if entry.author != self.author:
            raise MessageError("a feed's message is by another author; wanted this feed's")
        if entry.number > self.number:
            raise MessageError(
                f"messages {self.number} to {entry.number - 1} of a feed are missing; wanted all in order"
            )
        if entry.number < self.number:
            raise MessageError(f"message {entry.number} of a feed came again; wanted number {self.number}")
        if entry.previous != self.previous:
            raise MessageError(
                f"message {entry.number} of a feed does not follow the one before: its link is another's"
            )
        self.number, self.previous = entry.number + 1, entry.digest
        return entry


@dataclass
class _Allowance:
    """Messages that an author may still send; it fills up with time."""

    left: float
    since: float

    def spend(self, now: float, most: int, seconds: float) -> bool:
        self.left = min(float(most), self.left + (now - self.since) * most / seconds)
        self.since = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass
class Log:
    """A full node's copy of the feeds of those whom it allows; on disk where it has a folder.

    Attributes
    ----------
    allowed : collection of bytes
        Authors' keys: no proof of work, but nobody else writes here.
    folder : Path or None
        A file for each author, messages one after another, each behind its length in 4 bytes.
    most : int
        Messages that an author may send within `seconds`.
    seconds : float
        See above.
    most_bytes : int
        Of one feed.
    clock : callable
        Seconds that never go back.
    """

    allowed: Collection[bytes]
    folder: Path | None = None
    most: int = 60
    seconds: float = 60.0
    most_bytes: int = 1 << 30
    clock: Callable[[], float] = time.monotonic
    chains: dict[bytes, Chain] = field(default_factory=dict)
    sizes: dict[bytes, int] = field(default_factory=dict)
    _allowances: dict[bytes, _Allowance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for author in self.allowed:
            self.chains[author] = Chain(author)
            self.sizes[author] = 0
            self._allowances[author] = _Allowance(float(self.most), self.clock())
            for blob in self.entries(author):
                self.chains[author].take(blob)
                self.sizes[author] += 4 + len(blob)
            if self.folder is not None and self._file(author).is_file():
                os.truncate(self._file(author), self.sizes[author])  # what a crash cut off

    def take(self, blob: bytes) -> Entry:
        """Keep a message that may be kept.

        Raises
        ------
        MessageError
            As `Chain.take`; besides, if its author is not allowed, sends too many, or its feed is full.
        PeersError
            If it cannot be written down.
        """
        author = parsed(blob).author
        if author not in self.chains:
            raise MessageError("a feed's author is not on the list of those who may write; wanted one who is")
        if not self._allowances[author].spend(self.clock(), self.most, self.seconds):
            raise MessageError(
                f"an author sends more than {self.most} messages in {self.seconds:g} seconds; send slower"
            )
        if self.sizes[author] + 4 + len(blob) > self.most_bytes:
            raise MessageError(f"a feed has no room: {self.sizes[author]} bytes of {self.most_bytes} are taken")
        chain = replace(self.chains[author])
        entry = chain.take(blob)
        self._keep(author, blob)
        self.chains[author], self.sizes[author] = chain, self.sizes[author] + 4 + len(blob)
        return entry

    def _keep(self, author: bytes, blob: bytes) -> None:
        """Write a message down, or leave the file as it was."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._file(author).open("ab") as file:
                file.write(len(blob).to_bytes(4, "big") + blob)
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._file(author), self.sizes[author])
            raise PeersError(
                "a feed's message cannot be kept; make room in the folder of the log", repr(error)
            ) from None

    def _file(self, author: bytes) -> Path:
        assert self.folder is not None
        return self.folder / f"{author.hex()}.feed"

    def entries(self, author: bytes) -> Iterator[bytes]:
        """Yield a feed's messages from disk, whole ones only."""
        if self.folder is None or not self._file(author).is_file():
            return
        with self._file(author).open("rb") as file:
            while len(head := file.read(4)) == 4:
                length = int.from_bytes(head, "big")
                if length > MOST_BYTES or len(blob := file.read(length)) < length:
                    return
                yield blob
