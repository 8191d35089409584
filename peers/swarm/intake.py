"""Where thin feeders bring their messages: they need TCP and nothing else, and go on where they were cut off.

The feeder sends its author's key, 32 bytes; the node answers how many messages it has, in 8 bytes, and hangs up on who
is not allowed. Then each message, behind its length in 4 bytes, gets one byte: 1 where it was taken; else 0, and
the end. Nothing here is secret: messages are sealed and signed by their author.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterable
from typing import Protocol

from computation.errors import MeshNetError, MessageError, PeersError
from peers.swarm.entry import MOST_BYTES

__all__ = ["Intake", "bring"]

_KEY, _COUNT, _LENGTH = 32, 8, 4
#: Feeders at once, and seconds for which one may be silent.
_AT_ONCE, _SILENT = 16, 10.0


class Taker(Protocol):
    """Who keeps messages; `peers.swarm.carrying.Carrier` is one."""

    def count(self, author: bytes) -> int | None:
        """Return how many messages of a feed are here; nothing where its author is not allowed."""
        ...

    def bring(self, blob: bytes) -> None:
        """Take the next message; raises `MessageError` if it is none."""
        ...


class Intake(socketserver.ThreadingTCPServer):
    """Listens for feeders; a context manager.

    Parameters
    ----------
    taker : Taker
        Who keeps what they bring.
    host, port : str and int
        Where; port 0 takes a free one.

    Raises
    ------
    PeersError
        If it cannot listen there.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, taker: Taker, host: str, port: int) -> None:
        self.taker, self._room = taker, threading.BoundedSemaphore(_AT_ONCE)
        try:
            super().__init__((host, port), _Feeder)
        except OSError as error:
            fault = "the node cannot listen for feeders: the port is taken, or the address is another machine's"
            raise PeersError(fault, repr(error)) from None

    def __enter__(self) -> Intake:
        threading.Thread(target=self.serve_forever, name="feeders", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def verify_request(self, request: object, client_address: object) -> bool:
        """Hang up on one feeder too many."""
        return self._room.acquire(blocking=False)

    def leave(self) -> None:
        """Make room for another feeder."""
        self._room.release()


class _Feeder(socketserver.BaseRequestHandler):
    """One feeder at the door."""

    request: socket.socket
    server: Intake

    def handle(self) -> None:
        self.request.settimeout(_SILENT)
        try:
            self._serve(self.server.taker)
        except (OSError, EOFError):  # the feeder's affair
            pass
        finally:
            self.server.leave()

    def _serve(self, taker: Taker) -> None:
        if (count := taker.count(_exactly(self.request, _KEY))) is None:
            return
        self.request.sendall(count.to_bytes(_COUNT, "big"))
        while True:
            blob = _exactly(self.request, _length(self.request))
            try:
                taker.bring(blob)
            except MeshNetError:
                self.request.sendall(b"\0")
                return
            self.request.sendall(b"\1")


def bring(host: str, port: int, author: bytes, entries: Iterable[bytes]) -> int:
    """Bring a feed to a full node: all of its messages that are not there; return how many were.

    Raises
    ------
    PeersError
        If the node cannot be reached, or does not allow the author.
    MessageError
        If it refuses a message.
    """
    try:
        with socket.create_connection((host, port), _SILENT) as node:
            node.sendall(author)
            there = int.from_bytes(_exactly(node, _COUNT), "big")
            fresh = list(entries)[there:]
            for place, blob in enumerate(fresh, there):
                node.sendall(len(blob).to_bytes(_LENGTH, "big") + blob)
                if _exactly(node, 1) != b"\1":
                    raise MessageError(
                        f"the node refuses message {place}: too many at once, or another story of this feed"
                    )
            return len(fresh)
    except (OSError, EOFError) as error:
        wanted = "wanted a full node that listens there and has this feed's author on its list"
        raise PeersError(f"the feed cannot be brought: {wanted}", repr(error)) from None


def _exactly(end: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = end.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return found


def _length(end: socket.socket) -> int:
    length = int.from_bytes(_exactly(end, _LENGTH), "big")
    if length > MOST_BYTES:
        raise EOFError
    return length
