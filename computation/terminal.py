"""Where people read: a console that never raises, and names that cannot command a terminal.

What is printed holds names from folders, tables, databases and other sites. An escape sequence in one of them could
retitle the window or overwrite a line, a byte that is no text cannot be encoded, and a terminal may have no UTF-8, be
full or be gone. None of this may end a command whose work is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from computation.printable import plain

__all__ = ["SafeConsole", "complain", "console", "say", "shown"]

#: What ASCII spells otherwise; whatever else a terminal cannot show becomes a question mark.
_SPELT = str.maketrans({"–": "-", "—": "-", "−": "-", "±": "+-", "·": "|", "…": ".", "×": "x"})


def shown(value: object) -> str:
    """Return a name, path or reason for a place in rich's markup: plain, and its brackets are brackets."""
    return escape(plain(value))


def console() -> SafeConsole:
    """Return the console of a command: standard output as it is now."""
    return SafeConsole(file=_safe(sys.stdout))


def say(text: str) -> None:
    """Print a line, however long, as it is."""
    console().print(plain(text), soft_wrap=True, highlight=False, markup=False)


def complain(text: object) -> None:
    """Write a text to standard error; a log's lines in it stay lines."""
    stream = _safe(sys.stderr)
    stream.write(plain(text, keep="\n") + "\n")
    stream.flush()


class SafeConsole(Console):
    """A console of rich on which no text, wherever it came from, is anything but text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does; what is not printable is spelt, but for what rich itself commands."""
        for segment in super().render(renderable, options):
            if segment.is_control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=plain(segment.text, keep="\n"))


class _Stream:
    """A text stream that takes everything: what it cannot encode is replaced, and once it is gone, nothing is written.

    Parameters
    ----------
    stream : text file or None
        None is a stream that was closed before the process began.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Be as the stream in all else: its encoding, its descriptor."""
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # it is closed
            return False

    def write(self, text: str) -> int:
        """Write a text as far as it can be written."""
        if self._stream is not None:
            self._try(self._stream.write, _encodable(text, getattr(self._stream, "encoding", None) or "utf-8"))
        return len(text)

    def flush(self) -> None:
        """Send what is held back."""
        if self._stream is not None:
            self._try(self._stream.flush)

    def _try(self, verb: Callable[..., Any], *text: str) -> None:
        try:
            verb(*text)
        except BlockingIOError:  # the reader is slow; the next line may pass
            return
        except (OSError, ValueError):
            # Nobody reads any more, the disk is full, or the stream was closed.
            self._lose()

    def _lose(self) -> None:
        """Write nothing from now on; the interpreter's own last flush must not fail either."""
        with suppress(OSError, ValueError, AttributeError):
            descriptor = self._stream.fileno() if self._stream else -1
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        self._stream = None


def _safe(stream: IO[str] | None) -> IO[str]:
    return cast(IO[str], _Stream(stream))


def _encodable(text: str, encoding: str) -> str:
    """Return a text that a stream of this encoding can take."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_SPELT).encode(encoding, "replace").decode(encoding)
    return text
