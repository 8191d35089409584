"""One concise line per call: all that the COINSTAC app shows of a running container are its last two log lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from computation.errors import MeshNetError
from computation.tracking import lines
from computation.tracking.numbers import RoundNumbers, foreground

__all__ = ["Progress", "round_line"]

_LONGEST = 160


class Progress:
    """Writes one line at a time, flushed; a log that cannot be written never stops a run.

    Parameters
    ----------
    stream : text file, optional
        Where to; standard error by default, which belongs to no protocol.
    log : Path, optional
        A file that keeps the lines, each with its time, beside the stream.
    """

    def __init__(self, stream: TextIO | None = None, log: Path | None = None) -> None:
        self._stream, self._log = stream, log

    def say(self, text: str) -> None:
        """Write one line; whatever is not printable becomes a question mark, and a long text is cut."""
        line = text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
        line = line[:_LONGEST].encode("ascii", "replace").decode()
        stream = self._stream or sys.stderr
        try:
            if self._log is not None:
                lines.append(self._log, f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}")
            stream.write(f"{line}\n")
            stream.flush()
        except (MeshNetError, OSError, ValueError, AttributeError):
            # A closed pipe, a closed file, or no standard error at all: the journal has it all the same.
            return


def round_line(numbers: RoundNumbers, rounds: int, classes: Sequence[str]) -> str:
    """Return the line of one round.

    Examples
    --------
    >>> numbers = RoundNumbers(7, "", loss=0.412, sites=2, counted=("a", "b"), seconds=0.9, dice={"white matter": 0.81})
    >>> round_line(numbers, 200, ("background", "white matter"))
    'round 7/200  loss 0.412  2/2 sites  Dice WM .81  0.9 s'
    """
    parts = [
        f"round {numbers.round}/{rounds}" if rounds else f"round {numbers.round}",
        "void" if numbers.void else "" if numbers.loss is None else f"loss {numbers.loss:.3f}",
        f"{len(numbers.counted)}/{numbers.sites} sites{_absent(numbers)}",
        _dice(numbers, classes),
        f"{numbers.unreadable} scans unreadable" if numbers.unreadable else "",
        f"{numbers.seconds:.1f} s",
    ]
    return "  ".join(part for part in parts if part)


def _absent(numbers: RoundNumbers) -> str:
    told = {**numbers.skipped, **dict.fromkeys(numbers.clipped, "clipped")}
    shown = [f"{site[:20]}: {reason}" for site, reason in sorted(told.items())[:2]]
    more = len(told) - len(shown)
    return f" ({', '.join(shown)}{f' and {more} more' if more else ''})" if shown else ""


def _dice(numbers: RoundNumbers, classes: Sequence[str]) -> str:
    if not numbers.dice and not numbers.missing:
        return ""
    return f"{_scores(numbers, classes)}{_lacking(numbers)}"


def _lacking(numbers: RoundNumbers) -> str:
    shown = [site[:20] for site in sorted(numbers.missing)[:2]]
    more = len(numbers.missing) - len(shown)
    return f" without {', '.join(shown)}{f' and {more} more' if more else ''}" if shown else ""


def _scores(numbers: RoundNumbers, classes: Sequence[str]) -> str:
    names = classes[1:]
    if len(names) > 3:
        return f"Dice {_short(foreground(numbers.dice, classes))} over {len(names)} classes"
    return "Dice " + " ".join(f"{_initials(name)} {_short(numbers.dice.get(name))}" for name in names)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".removeprefix("0")


def _initials(name: str) -> str:
    words = name.split()
    return "".join(word[0] for word in words).upper() if len(words) > 1 else name[:12]
