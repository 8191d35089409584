"""One link to each other peer, over a wire that moves whole arrays between two places and blocks while it does.

Each link has two threads of its own, one that sends and one that receives, so that a peer which is dead or slow holds
up nobody else. A frame is 16 bytes, its kind and its length, little-endian, and then so many bytes. Each side of a link
says goodbye once, at its own end or in answer to the other's; a link over which both have is quiet, and can be torn
down without anything being lost. A goodbye says why, in JSON: `Note`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from computation.checks import parse_json
from computation.errors import PeersError
from peers.traffic import Count, Traffic

__all__ = ["ENDED", "FAILED", "WAITING", "WORKING", "Link", "Links", "Note", "Wire"]

Bytes: TypeAlias = NDArray[np.uint8]

_MESSAGE, _GOODBYE = 1, 2
_FRAME_BYTES = 16
#: Frames that may wait for a peer to take them, and messages of one sender that may lie unread.
_MOST_WAITING = 256
_LONGEST_NOTE = 1 << 16

#: What a peer does that says goodbye: it waits in a collective, works on, has ended well, or badly.
WAITING, WORKING, ENDED, FAILED = "waiting", "working", "ended", "failed"


class Wire(Protocol):
    """Moves arrays in order; both verbs block until it is done, and raise `RuntimeError` once the other end is gone."""

    def send(self, place: int, content: Bytes) -> None:
        """Send all of an array."""
        ...

    def receive(self, place: int, content: Bytes) -> None:
        """Fill an array with what was sent."""
        ...


@dataclass(frozen=True)
class Note:
    """Why a peer says goodbye.

    Attributes
    ----------
    state : str
        What it does, one of the four.
    gone : tuple of str
        Who it knows to be gone.
    """

    state: str
    gone: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps({"state": self.state, "gone": list(self.gone)}).encode()

    @classmethod
    def decode(cls, content: bytes, names: Iterable[str]) -> Note:
        """Read it; of what is not understood, nothing is believed."""
        try:
            found = parse_json(content.decode())
        except (ValueError, RecursionError):
            return cls(FAILED)
        known = found if isinstance(found, dict) else {}
        state, gone = known.get("state"), known.get("gone")
        named = tuple(name for name in names if isinstance(gone, list) and name in gone)
        return cls(str(state), named) if state in (WAITING, WORKING, ENDED, FAILED) else cls(FAILED, named)


@dataclass
class Link:
    """What is known of the way to one other peer.

    Attributes
    ----------
    name : str
        Who is at the other end.
    place : int
        Its place in the wire.
    frames : collections.deque
        That wait to be sent: kind, content, and the values in it.
    unread : int
        Messages of this sender that lie in the box.
    note : Note or None
        With which the other said goodbye.
    broken : bool
        Whether the wire failed, or the other does not keep to the frames.
    parting : bool
        Whether this side has said goodbye.
    threads : list of threading.Thread
        The two of it.
    """

    name: str
    place: int
    frames: deque[tuple[int, bytes, int]] = field(default_factory=deque)
    unread: int = 0
    note: Note | None = None
    broken: bool = False
    parting: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether the other peer is there, as far as is known."""
        return not self.broken and self.note is None


class Links:
    """All links of one peer, and the box into which messages come.

    Parameters
    ----------
    wire : Wire
        That carries them.
    names : sequence of str
        Of all peers, by place.
    own : str
        Name of this one.
    traffic : Traffic
        Where every message that was sent is counted.

    Attributes
    ----------
    state : str
        What this peer does now: its answer to a goodbye.
    """

    def __init__(self, wire: Wire, names: tuple[str, ...], own: str, traffic: Traffic) -> None:
        self.state = WORKING
        self._wire, self._own, self._traffic = wire, own, traffic
        self._links = {name: Link(name, place) for place, name in enumerate(names) if name != own}
        self._box: deque[tuple[str, bytes, str]] = deque()
        self._changed = threading.Condition()
        self._longest = 0
        self._leaving = self._went = False

    def start(self, longest: int) -> None:
        """Begin to receive messages of at most so many bytes."""
        with self._changed:
            self._longest = max(self._longest, longest)
        for link in self._links.values():
            if not link.threads:
                works: tuple[Callable[[Link], None], ...] = (self._sending, self._receiving)
                link.threads = [threading.Thread(target=work, args=(link,), daemon=True) for work in works]
                for thread in link.threads:
                    thread.start()

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of those who are there, as far as is known, or of whom something lies here unread; sorted."""
        return tuple(sorted(name for name, link in self._links.items() if link.open or link.unread))

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of those whose link broke without a goodbye; sorted."""
        return tuple(sorted(name for name, link in self._links.items() if link.broken and link.note is None))

    @property
    def notes(self) -> dict[str, Note]:
        """With what the others said goodbye, by name."""
        return {name: link.note for name, link in self._links.items() if link.note is not None}

    def put(self, to: str, content: bytes, values: int) -> bool:
        """Take a message to be sent; tell whether there was room. To a peer that is gone it goes nowhere.

        Raises
        ------
        PeersError
            If nobody has that name.
        """
        link = self._links.get(to)
        if link is None:
            raise PeersError(
                f"a message is for {to}, who is none of the other peers; wanted one of {sorted(self._links)}"
            )
        with self._changed:
            if link.open and not link.parting:
                if len(link.frames) >= _MOST_WAITING:
                    return False
                link.frames.append((_MESSAGE, content, values))
                self._changed.notify_all()
        return True

    def take(self, seconds: float = 0.0) -> list[tuple[str, bytes, str]]:
        """Return what has come, in its order: sender, content, and what was wrong with it, if anything.

        Parameters
        ----------
        seconds : float
            To wait for the first; no longer when a peer goes.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._box or self._went, min(max(seconds, 0.0), threading.TIMEOUT_MAX))
            taken = list(self._box)
            self._box.clear()
            self._went = False
            for link in self._links.values():
                link.unread = 0
            self._changed.notify_all()
        return taken

    def leave(self, note: Note, seconds: float, flush: bool = True) -> bool:
        """Say goodbye to all, once, and wait until every link is quiet; tell whether that was so in time.

        Parameters
        ----------
        note : Note
            Why.
        seconds : float
            To wait at most.
        flush : bool
            Whether messages that wait are sent before.
        """
        deadline = time.monotonic() + seconds
        self.start(0)
        with self._changed:
            self._leaving = True
            for link in self._links.values():
                if not flush:
                    link.frames = deque(frame for frame in link.frames if frame[0] == _GOODBYE)
                self._part(link, note)
            self._changed.notify_all()
        threads = [thread for link in self._links.values() for thread in link.threads]
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)

    def _part(self, link: Link, note: Note) -> None:
        if not link.parting:
            link.parting = True
            link.frames.append((_GOODBYE, note.encode(), 0))

    def _sending(self, link: Link) -> None:
        """Send what waits, until the goodbye is sent or the link breaks."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: link.frames or link.broken)
                if link.broken:
                    return None
                kind, content, values = link.frames.popleft()
            if kind == _MESSAGE and link.note is not None:
                continue  # nobody is there to read it
            frame = np.array([kind, len(content)], "<i8").view(np.uint8)
            try:
                self._wire.send(link.place, frame)
                self._wire.send(link.place, np.frombuffer(bytearray(content), np.uint8))
            except RuntimeError:
                return self._break(link)
            if kind == _GOODBYE:
                return None
            self._traffic.count(self._own, link.name, Count(1, values, _FRAME_BYTES + len(content)))

    def _receiving(self, link: Link) -> None:
        """Receive what comes, until the other says goodbye or the link breaks."""
        frame = np.empty(_FRAME_BYTES, np.uint8)
        while not link.broken:
            try:
                self._wire.receive(link.place, frame)
                kind, length = (int(number) for number in frame.view("<i8"))
                most = {_MESSAGE: self._longest, _GOODBYE: _LONGEST_NOTE}.get(kind, -1)
                if not 0 < length <= most:
                    return self._break(link, f"it announces {length} bytes of kind {kind}; wanted at most {most}")
                content = np.empty(length, np.uint8)
                self._wire.receive(link.place, content)
            except RuntimeError:
                return self._break(link)
            if kind == _GOODBYE:
                return self._parted(link, Note.decode(content.tobytes(), self._links))
            self._deliver(link, content.tobytes())
        return None

    def _deliver(self, link: Link, content: bytes) -> None:
        """Lay a message into the box; while too many of this sender lie there, it waits outside."""
        with self._changed:
            self._changed.wait_for(lambda: link.unread < _MOST_WAITING or self._leaving)
            if not self._leaving:
                link.unread += 1
                self._box.append((link.name, content, ""))
                self._changed.notify_all()

    def _parted(self, link: Link, note: Note) -> None:
        """Answer a goodbye with the own one."""
        with self._changed:
            link.note, self._went = note, True
            self._part(link, Note(self.state, self.broken))
            self._changed.notify_all()

    def _break(self, link: Link, fault: str = "") -> None:
        """Give a link up; tell of it where the other is at fault."""
        with self._changed:
            self._went = self._went or link.open
            link.broken = True
            if fault:
                self._box.append((link.name, b"", fault))
            self._changed.notify_all()
