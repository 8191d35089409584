"""Keeps a process running: starts another when it has ended, not at once each time, and ends it with its own."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from computation.orphans import die_with_parent

__all__ = ["Kept"]

log = logging.getLogger(__name__)

#: Seconds before another one is started: the first time, at most, and how long one must last to count as sound.
_FIRST, _MOST, _SOUND = 0.1, 30.0, 60.0
#: Seconds that it has to end by itself.
_FAREWELL = 15.0


class Kept:
    """A context manager in which a command runs, whatever becomes of its process.

    Parameters
    ----------
    command : sequence of str
        Starts it.
    environment : mapping of str
        Of the process.
    name : str
        For the log.
    output : Path
        File to the end of which goes what it prints.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str, output: Path) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._name, self._output = name, output
        self._over = threading.Event()
        # Linux ends a child with the thread that started it, so one thread lasts for as long as the process may.
        self._thread = threading.Thread(target=self._keep, name=name)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Kept:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def pid(self) -> int:
        """Of the process that runs now; 0 where none does."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def _keep(self) -> None:
        pause = _FIRST
        while not self._over.is_set():
            began = time.monotonic()
            self._process = self._started()
            while self._process.poll() is None and not self._over.wait(0.2):
                pass
            if self._over.is_set():
                break
            pause = _FIRST if time.monotonic() - began > _SOUND else min(2 * pause, _MOST)
            log.error("the %s has ended (status %s); another one is started", self._name, self._process.returncode)
            self._over.wait(pause)
        self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(),
            )

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
