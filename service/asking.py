"""Secrets of people at a terminal: asked for without an echo, or read from a pipe; written for their owner alone."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from computation.errors import IdentityError

__all__ = ["asked", "written"]

_LONGEST = 4096


def asked(what: str, *, twice: bool = False) -> str:
    """Return a password, which is never an argument: those are in every list of processes.

    Parameters
    ----------
    what : str
        Shown before it on a terminal.
    twice : bool
        Whether it is new, and has to be typed again; not where it comes from a pipe.

    Raises
    ------
    IdentityError
        If there is none, or the two differ.
    """
    if not sys.stdin.isatty():
        return _some(sys.stdin.readline(_LONGEST).rstrip("\r\n"))
    first = _some(getpass.getpass(f"{what}: "))
    if twice and getpass.getpass(f"{what}, again: ") != first:
        raise IdentityError("the two passwords differ; nothing was changed")
    return first


def _some(password: str) -> str:
    if not password:
        raise IdentityError("no password was given; type one, or pipe one line into the command")
    return password


def written(path: Path, held: Mapping[str, str]) -> None:
    """Write credentials into a new file that only its owner can read.

    Raises
    ------
    IdentityError
        If there is a file of that name, or it cannot be made.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(dict(held), file)
            file.write("\n")
    except FileExistsError:
        raise IdentityError("there is a file of that name already; name another one", str(path)) from None
    except OSError as error:
        raise IdentityError("the credentials cannot be written there; name another file", str(error)) from None
