"""Peers as processes of this machine, one command each: started, watched, and all ended in the end.

The meeting point is kept here, as `torchrun`'s agent keeps it, so that no peer's death takes it away from the others.
Each peer is a process group of its own and writes into a log file of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from computation.errors import PeersError
from computation.orphans import die_with_parent

__all__ = ["Ended", "launch"]

_LOOK = 0.02


@dataclass(frozen=True)
class Ended:
    """How a peer's process ended.

    Attributes
    ----------
    name : str
        Of the peer.
    status : int
        What it exited with; of a process that was killed, the signal's number, negative.
    seconds : float
        After the start of all.
    log : pathlib.Path
        What it wrote.
    """

    name: str
    status: int
    seconds: float
    log: Path

    @property
    def well(self) -> bool:
        """Whether it did what it was to do."""
        return self.status == 0

    def __str__(self) -> str:
        how = f"was killed by {_signal(-self.status)}" if self.status < 0 else f"ended with status {self.status}"
        return f"{self.name} {how} after {self.seconds:.1f} seconds"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def launch(
    commands: Mapping[str, Sequence[str]],
    logs: Path,
    *,
    one_for_all: bool = True,
    patience: float = 10.0,
    told: Callable[[Ended], None] = lambda _: None,
) -> tuple[Ended, ...]:
    """Run a command for each peer at the same time, until all have ended.

    Each finds RANK and LOCAL_RANK, its place among the sorted names, WORLD_SIZE and LOCAL_WORLD_SIZE, MASTER_ADDR,
    MASTER_PORT and TORCHELASTIC_USE_AGENT_STORE in its environment, as under `torchrun`; and OMP_NUM_THREADS, its share
    of the processors, where nobody has set it.

    Parameters
    ----------
    commands : mapping of sequence of str
        By the peer's name: program and arguments.
    logs : pathlib.Path
        Folder for `NAME.log`; made if need be.
    one_for_all : bool
        Whether a peer that fails ends the others.
    patience : float
        Seconds that peers have to end by themselves after another has failed, when `one_for_all`, and after they were
        asked to end, before they are killed.
    told : callable
        Hears of every end when it is seen.

    Returns
    -------
    tuple of Ended
        In the order in which they ended. Without `one_for_all` some may have ended badly.

    Raises
    ------
    PeersError
        If a command cannot be started, or, with `one_for_all`, if a peer ended badly: the message names the first.
    KeyboardInterrupt, SystemExit
        After SIGINT or SIGTERM, when all have ended.
    """
    logs.mkdir(parents=True, exist_ok=True)
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=patience), wait_for_workers=False)
    pack = _Pack(logs, _shared(len(commands), store.port))
    with _signals(pack):
        try:
            for rank, name in enumerate(sorted(commands)):
                if not pack.asked:
                    pack.start(name, commands[name], rank)
            return pack.watch(one_for_all, patience, told)
        finally:
            pack.end(patience)


def _shared(count: int, port: int) -> dict[str, str]:
    """Return the environment of all peers."""
    threads = max((os.cpu_count() or 1) // max(count, 1), 1)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


class _Pack:
    """The processes of all peers."""

    def __init__(self, logs: Path, variables: Mapping[str, str]) -> None:
        self._logs, self._variables = logs, variables
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began = time.monotonic()
        #: The signal that asked this process to end, if any did.
        self.asked = 0

    def start(self, name: str, command: Sequence[str], rank: int) -> None:
        """Start one of them."""
        variables = {**self._variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        try:
            with self._log(name).open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    start_new_session=True,  # a group of its own: it and what it starts can be ended together
                    preexec_fn=die_with_parent(),
                )
        except OSError as error:
            raise PeersError(f"the command of peer {name} cannot be started", str(error)) from error

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def watch(self, one_for_all: bool, patience: float, told: Callable[[Ended], None]) -> tuple[Ended, ...]:
        """Wait until all have ended, or, all for one, one has ended badly and the others had their time."""
        ended: dict[str, Ended] = {}
        limit = float("inf")
        while len(ended) < len(self._processes) and time.monotonic() < limit and not self.asked:
            for one in self._new(ended):
                ended[one.name] = one
                told(one)
                if one_for_all and not one.well:
                    limit = min(limit, time.monotonic() + patience)
            time.sleep(_LOOK)
        first = next((one for one in ended.values() if not one.well), None)
        if one_for_all and first is not None and not self.asked:
            raise PeersError(f"{first}, and so the others were ended; its log says why", str(first.log))
        return tuple(ended.values())

    def _new(self, known: Mapping[str, Ended]) -> Iterator[Ended]:
        for name, process in self._processes.items():
            if name not in known and process.poll() is not None:
                yield Ended(name, process.returncode, time.monotonic() - self._began, self._log(name))

    def end(self, patience: float) -> None:
        """Ask those that still run to end, kill those that do not, and whatever any of them has left behind."""
        for process in self._running:
            with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
                os.killpg(process.pid, self.asked or signal.SIGTERM)
        limit = time.monotonic() + patience
        while self._running and time.monotonic() < limit:
            time.sleep(_LOOK)
        for process in self._processes.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._processes.values() if process.poll() is None]


@contextmanager
def _signals(pack: _Pack) -> Iterator[None]:
    """Have SIGINT and SIGTERM end all peers inside, and act on them here afterwards."""

    def asked(number: int, frame: FrameType | None) -> None:
        pack.asked = number  # and nothing else: it may be in the middle of starting one

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pack.asked == signal.SIGINT:
        raise KeyboardInterrupt
    if pack.asked:
        raise SystemExit(128 + pack.asked)
