"""The death of a node, or the end of its disk's room, at any of its file operations: without a process, in one thread.

CPython announces every file that is opened, renamed or removed to an audit hook, and what the hook raises is raised
there. A dead node does nothing any more: whatever it still tries, such as removing a half-written file, raises again.
"""

import errno
import os
import sys
from contextlib import contextmanager

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_armed = []


class Killed(BaseException):
    """The node is dead: no handler of exceptions may catch this, and none does for long."""


class Crash:
    """What strikes a node at its file operation number `at`, counted from 1 over those that change something.

    Parameters
    ----------
    kind : str
        `kill`: it is dead from then on. `full`: it makes no file and no folder any more. `none`: nothing.
    at : int
        Which operation.
    places : sequence of str
        The node's folders; what is done elsewhere is not the node's.
    """

    def __init__(self, kind, at, places):
        self.kind, self.at, self.places = kind, at, tuple(f"{place}/" for place in places)
        self.count, self.struck = 0, False

    def look(self, event, args):
        if self.kind == "none" or not self._mine(event, args):
            return
        self.count += 1
        if self.struck and self.kind == "kill":
            raise Killed
        if self.count < self.at:
            return
        if self.kind == "kill":
            self.struck = True
            raise Killed
        if event == "os.mkdir" or (event == "open" and _flags(args) & os.O_CREAT):
            self.struck = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[0])

    def _mine(self, event, args):
        if event == "open":
            if not self.struck and not _flags(args) & _WRITING:
                return False
        elif event not in _CHANGES:
            return False
        path = args[1] if event == "os.symlink" else args[0]
        # A dead process holds no lock; here, who has one must be able to give it up.
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        return name.startswith(self.places) and not name.endswith(".lock")


def _flags(args):
    return args[2] if isinstance(args[2], int) else 0


def _hook(event, args):
    if _armed and (event == "open" or event in _CHANGES):
        _armed[-1].look(event, args)


sys.addaudithook(_hook)


@contextmanager
def armed(crash):
    """Let a crash strike what is done inside."""
    _armed.append(crash)
    try:
        yield
    finally:
        _armed.pop()
