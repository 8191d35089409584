"""Who a process is, so that another one can tell whether it is still there."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

__all__ = ["is_gone", "own_identity"]


def own_identity() -> str:
    """Return what tells this process from every other: machine, process id, and when it started."""
    return f"{_machine()} {os.getpid()} {_birth(os.getpid())}"


def is_gone(identity: str) -> bool:
    """Whether a process of this machine is no longer there; one of another machine is never taken for gone."""
    machine, _, process = identity.rpartition(" ")[0].rpartition(" ")
    if machine != _machine() or not process.isdecimal():
        return False
    return _birth(int(process)) != identity.rpartition(" ")[2]


def _machine() -> str:
    """Return this machine's name, and on Linux which of its process namespaces this is."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _birth(process: int) -> str:
    """Return when a process started, as far as the system tells; empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:  # another user's
        return "alive"
    return "alive"
