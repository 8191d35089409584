"""Claims steps that are ready, lets the centre answer them, and publishes; a process beside the server, or a Lambda.

Any number of workers may run at once, on one machine or several: what a worker does counts only if its claim is still
the latest when it publishes. A worker that dies is replaced when its lease ends, by any other, from what it published.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from computation.errors import MeshNetError, MessageError, public_text, unwritable
from service.aggregate import Centre
from service.bell import Listener
from service.cases import closing
from service.cases.closing import Claim
from service.cases.desk import Desk, active
from service.protocol import Conflict

__all__ = ["LEASE", "Worker", "serve"]

#: Milliseconds for which a claim holds; it is renewed while the centre computes.
LEASE = 15_000
#: Runs whose centres are kept warm.
_MOST_WARM = 8
#: Milliseconds, and seconds between two sweeps.
_DAY, _HOUR = 86_400_000, 3600.0
#: Seconds between two looks at all runs: deadlines, leases, and rings that got lost.
_TICK = 1.0

log = logging.getLogger(__name__)


class Worker:
    """Works for all runs of a desk.

    Parameters
    ----------
    desk : Desk
        The desk.
    folder : Path
        For the folders of the centres; nothing in it is needed after an end.
    lease : int
        Milliseconds for which a claim holds without being renewed.
    """

    def __init__(self, desk: Desk, folder: Path, lease: int = LEASE) -> None:
        self._desk, self._lease = desk, lease
        self.name = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._folder = folder / self.name
        self._warm: OrderedDict[str, Centre] = OrderedDict()
        self._claim: Claim | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._renew, name="leases", daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up all that is kept warm."""
        self._closed.set()
        for run in list(self._warm):
            self._cool(run)
        shutil.rmtree(self._folder, ignore_errors=True)

    def sweep(self) -> int:
        """Forget what expired long ago: reservations, and what was done for an idempotency key."""
        self._desk.store.sweep(self._desk.clock() - _DAY)
        return 0

    def look(self) -> int:
        """Look at every run that has something open, and do what is to be done; return the steps published."""
        return sum(self.work(step.run) for step in list(active(self._desk)))

    def work(self, run: str) -> int:
        """Do what is to be done in one run; return the steps published.

        After one there is nothing more until a site commits or a deadline passes, and both are told of.
        """
        while (claim := closing.claim(self._desk, run, self.name, self._lease)) is not None:
            if self._publish(claim):
                return 1
        return 0

    def _publish(self, claim: Claim) -> bool:
        run, number = claim.run.id, claim.step.number
        try:
            with self._renewing(claim):
                centre = self._centre(claim)
                made = centre.answer(claim)
            closing.publish(self._desk, claim, made)
        except Conflict as error:
            log.warning("run %s step %d attempt %d: %s", run, number, claim.step.attempt, error.public)
            self._cool(run)
            return False
        except Exception as error:
            log.error("run %s step %d attempt %d: %s", run, number, claim.step.attempt, public_text(error))
            log.debug("the failure was", exc_info=error)
            self._cool(run)
            closing.stumble(self._desk, claim, public_text(error), passing=_may_pass(error))
            return False
        if made.course is None:
            self._cool(run)
        return True

    def _centre(self, claim: Claim) -> Centre:
        """Return the run's centre: warm if it stands before this very step, and otherwise from what was published."""
        run, number = claim.run.id, claim.step.number
        if run in self._warm and self._warm[run].iteration != number:
            self._cool(run)  # another worker was busy in between
        if run not in self._warm:
            while len(self._warm) >= _MOST_WARM:
                self._cool(next(iter(self._warm)))
            before = self._desk.store.step(run, number - 1) if number else None
            state = before.result.state if before and before.result else ""
            self._warm[run] = Centre(self._desk, run, self._folder / run, state)
        self._warm.move_to_end(run)
        return self._warm[run]

    def _cool(self, run: str) -> None:
        if centre := self._warm.pop(run, None):
            centre.close()

    @contextmanager
    def _renewing(self, claim: Claim) -> Iterator[None]:
        """Renew a claim for as long as this takes; whether it held shows at its publication."""
        self._claim = claim
        try:
            yield
        finally:
            self._claim = None

    def _renew(self) -> None:
        """Renew what is claimed, three times in each lease, until the end: the work of a thread of its own."""
        while not self._closed.wait(self._lease / 3000):
            if (claim := self._claim) is None:
                continue
            try:
                closing.renew(self._desk, claim, self._lease)
            except MeshNetError as error:
                if claim is self._claim:  # and has not been published meanwhile
                    log.warning("run %s step %d: not renewed: %s", claim.run.id, claim.step.number, error.public)


def _may_pass(error: Exception) -> bool:
    """Tell what the machine failed at from what the centre has decided, which it would decide again."""
    full = [unwritable(kind) for kind in ("output", "transfer")]
    return not isinstance(error, MessageError) or any(text in error.public for text in full)


def serve(worker: Worker, listener: Listener, stopped: threading.Event, tick: float = _TICK) -> None:
    """Work until somebody says stop: at once where the bell rings, and everywhere now and then.

    Parameters
    ----------
    worker : Worker
        The worker.
    listener : Listener
        Began to listen before this is called, so that nothing is missed.
    stopped : threading.Event
        Set to end it after the step in hand, within one tick.
    tick : float
        Seconds between two looks at everything: deadlines, leases that ended, and rings that got lost.
    """
    looked = swept = -math.inf
    while not stopped.is_set():
        if time.monotonic() - looked >= tick:
            _guarded(worker.look)
            looked = time.monotonic()
        if time.monotonic() - swept >= _HOUR:
            _guarded(worker.sweep)
            swept = time.monotonic()
        for run in listener.wait(tick):
            _guarded(partial(worker.work, run))


def _guarded(work: Callable[[], int]) -> None:
    """Go on after whatever one look failed at, such as a store that somebody else held: the next one comes."""
    try:
        work()
    except Exception as error:
        log.error("a look failed: %s", public_text(error))
        log.debug("the failure was", exc_info=error)
