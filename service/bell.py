"""Tells other processes on this machine that something has happened in a run, so that nobody has to look all the time.

Everybody who listens has a Unix datagram socket in one folder; whoever rings sends the run's id to each. A ring may get
lost, and nobody relies on one: who waits looks again by itself after a second or two. What only a worker has to know
is rung for workers alone: a step's last contribution would else wake all sites for nothing. What a worker has done is
rung for those who wait: it would else wake itself.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Bell", "Listener"]

#: Bytes of an id, and ids that are read at once; those beyond are read the next time.
_LONGEST, _MOST = 64, 256
#: Bytes that the name of a socket may have, on every system.
_LONGEST_NAME = 100
#: How the names of workers' sockets begin.
_WORKER = "worker-"


class Listener:
    """Hears of runs; to be used by one thread, or by an event loop that watches `fileno`."""

    def __init__(self, own: socket.socket, path: Path | None = None) -> None:
        self._socket, self._path = own, path
        own.setblocking(False)

    def fileno(self) -> int:
        """Return what can be watched: it is readable when somebody has rung."""
        return self._socket.fileno()

    def heard(self) -> frozenset[str]:
        """Return the runs that have rung since, without waiting."""
        runs = set()
        with suppress(OSError):
            for _ in range(_MOST):
                runs.add(self._socket.recv(_LONGEST).decode("ascii", "replace"))
        return frozenset(runs)

    def wait(self, seconds: float) -> frozenset[str]:
        """Return the runs that have rung, as soon as one does, or none after so many seconds."""
        select.select([self._socket], [], [], seconds)
        return self.heard()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()
        if self._path:
            self._path.unlink(missing_ok=True)


class Bell:
    """Rings for everybody who listens.

    Parameters
    ----------
    folder : Path, optional
        Where processes of one data folder meet, made if it is missing; without one, or where there are no such sockets,
        only this process hears.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own: list[tuple[socket.socket, bool]] = []
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __call__(self, run: str) -> None:
        """Ring for a run; nothing that goes wrong with that is anybody's concern."""
        self._ring(run, (True, False))

    def work(self, run: str) -> None:
        """Ring for a run in which there is something to do, for workers alone."""
        self._ring(run, (True,))

    def news(self, run: str) -> None:
        """Ring for a run in which a worker has done something, for those who wait alone."""
        self._ring(run, (False,))

    def _ring(self, run: str, works: Collection[bool]) -> None:
        content = run.encode("ascii", "replace")[:_LONGEST]
        for one in [own for own in self._own if own[1] in works]:
            try:
                one[0].send(content)
            except BlockingIOError:
                pass  # it has enough to read
            except OSError:
                with suppress(ValueError):
                    self._own.remove(one)
                one[0].close()
        if self._folder is not None:
            self._ring_others(self._folder, content, works)

    @staticmethod
    def _ring_others(folder: Path, content: bytes, works: Collection[bool]) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for entry in list(os.scandir(folder)):
                if entry.name.startswith(_WORKER) not in works:
                    continue
                try:
                    with _near(Path(entry.path)) as name:
                        sender.sendto(content, name)
                except (ConnectionRefusedError, FileNotFoundError):
                    with suppress(OSError):
                        Path(entry.path).unlink()  # whoever listened there was killed
                except OSError:
                    pass

    def listen(self, *, works: bool = False) -> Listener:
        """Begin to listen, as one who works or who only waits; close it at the end."""
        if self._folder is not None and hasattr(socket, "AF_UNIX"):
            own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            path = self._folder / f"{_WORKER if works else ''}{os.getpid()}-{secrets.token_hex(4)}"
            try:
                with _near(path) as name:
                    own.bind(name)
                return Listener(own, path)
            except OSError:
                own.close()
        theirs, own = socket.socketpair(type=socket.SOCK_DGRAM)
        theirs.setblocking(False)
        self._own.append((theirs, works))
        return Listener(own)


@contextmanager
def _near(path: Path) -> Iterator[str]:
    """Lend a socket's name that is short enough: through its folder's handle where the path is too long."""
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
