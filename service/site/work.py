"""The one thing that a site's machine does at a time: an import, or a check of every voxel, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from computation.files import replacing
from computation.isolation import variables
from computation.orphans import die_with_parent
from service.clock import now
from service.protocol import Conflict
from service.site.order import Order
from service.site.root import Root

__all__ = ["State", "Work"]

#: Seconds that a process has to end by itself when it is asked to.
_FAREWELL = 15.0
#: Bytes of the record of the last order.
_MOST = 64 * 2**20


@dataclass(frozen=True)
class State:
    """How an order stands.

    Attributes
    ----------
    order : Order
        What was asked for.
    state : str
        `running`, `done`, `failed`, `stopped` by a person, or `interrupted` by the end of these pages.
    done, total : int
        Scans; no total is known at first.
    began, ended : int
        Milliseconds since 1970; it ends at 0 while it runs.
    problem, detail : str
        Why it failed: what anybody may know, and what is for the owner of the machine alone.
    result : mapping
        What came of it, as `working` says it.
    number : int
        Grows with every change.
    """

    order: Order
    state: str = "running"
    done: int = 0
    total: int = 0
    began: int = 0
    ended: int = 0
    problem: str = ""
    detail: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0


class Work:
    """Does one order at a time; any thread may ask. A context manager, at whose end whatever runs is ended.

    Parameters
    ----------
    root : Root
        Below which orders are.
    record : Path
        File in which the last order is kept.
    """

    def __init__(self, root: Root, record: Path) -> None:
        self.root, self._record = root, record
        self._lock, self._keeping = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._why = ""
        self._state = _recalled(record)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *failure: object) -> None:
        self._end("interrupted")
        if self._thread:
            self._thread.join()

    @property
    def state(self) -> State | None:
        """How the last order stands; nothing if there was none."""
        return self._state

    @property
    def pulse(self) -> str:
        """A short text that changes with the state."""
        state = self._state
        return f"{state.began}-{state.number}" if state else ""

    def begin(self, order: Order) -> None:
        """Do an order.

        Raises
        ------
        Conflict
            If another one is not over yet.
        """
        with self._lock:
            if self._state and self._state.state == "running":
                raise Conflict("busy", "one import or check at a time; wait for the other one, or stop it")
            self._state, self._why = State(order, began=now()), ""
            # Linux ends a child with the thread that started it, so one thread lasts for as long as the process may.
            self._thread = threading.Thread(target=self._run, args=(order,), name="work")
            self._thread.start()

    def stop(self) -> None:
        """Ask what runs to end; what was there before stays, and an import that is begun again goes on."""
        self._end("stopped")

    def _end(self, why: str) -> None:
        with self._lock:
            self._why = self._why or why
            if self._process:
                _terminate(self._process)

    def _run(self, order: Order) -> None:
        """Start the process, hear what it says, and keep what came of it."""
        self._keep()
        try:
            process = self._started(order)
        except OSError as error:
            text = "no process can be started for it; free some memory"
            self._change(state="failed", problem=text, detail=str(error))
        else:
            with process:
                told = self._heard(process)
                status = process.wait()
            self._change(**(told or self._lost(status)))
        self._keep()

    def _started(self, order: Order) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.site.working", os.fsencode(self.root.folder)],
            env={**os.environ, **variables()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What readers of images warn of holds paths; what the order comes to says the rest.
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches every process of a terminal; the pages alone answer it, and end this one.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        assert process.stdin is not None
        with self._lock:
            self._process = process
            if self._why:
                _terminate(process)
        with suppress(BrokenPipeError), process.stdin as sent:
            sent.write(json.dumps(order.as_json()).encode())
        return process

    def _heard(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Follow a process to its end; return what came of it, which is nothing if it was ended."""
        assert process.stdout is not None
        came: dict[str, Any] = {}
        for line in process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                continue  # of a library that prints
            if "result" in told:
                came = {"state": "done", "result": told["result"]}
            elif "problem" in told:
                came = {"state": "failed", "problem": told["problem"], "detail": told.get("detail", "")}
            elif "stopped" in told:  # by somebody else
                self._why = self._why or "interrupted"
            elif "done" in told:
                self._change(done=told["done"], total=told["total"])
        return came

    def _lost(self, status: int) -> dict[str, Any]:
        if self._why:
            return {"state": self._why}
        told = "its process was killed, most likely for want of memory" if status < 0 else "its process has ended"
        return {"state": "failed", "problem": f"{told} ({status}); begun again, it goes on where it was"}

    def _change(self, **told: Any) -> None:
        with self._lock:
            assert self._state is not None
            ended = now() if told.get("state") else 0
            self._state = replace(self._state, **told, ended=ended, number=self._state.number + 1)

    def _keep(self) -> None:
        with self._keeping, suppress(OSError), replacing(self._record) as partial:
            partial.write_text(json.dumps(asdict(self._state)) if self._state else "", "utf-8")


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """End a process: gently, and after a while for sure."""
    process.terminate()
    timer = threading.Timer(_FAREWELL, process.kill)
    timer.daemon = True
    timer.start()


def _recalled(record: Path) -> State | None:
    """Return the last order; one that was under way when these pages ended is so no more."""
    try:
        with record.open("rb") as file:
            raw = json.loads(file.read(_MOST))
        found = State(**{**raw, "order": Order.from_json(raw["order"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(found, state="interrupted", ended=found.began) if found.state == "running" else found
