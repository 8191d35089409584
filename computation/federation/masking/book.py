"""A site's private key of the run, and what it did with it last: in a file for its owner alone, beside the checkpoints.

A restarted site goes on from a checkpoint, and whoever starts it may choose which. So this file is no part of them: it
is written before anything leaves, and never goes back. Who asks for one round in two ways gets one of them.

The record has the length of a disk's sector and is written over the last one at once: so a killed process leaves the
one or the other, as with a file that takes the place of another. That would cost five times as much, twice in each
round, on file systems that then find the new one's blocks before they go on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from computation.checks import is_digest
from computation.errors import MessageError, ResumeError, unwritable
from computation.files import replacing
from computation.secure import keys

__all__ = ["Book", "Entry"]

_FILE = "masking.json"
#: Bytes of the record, filled up with spaces.
_SECTOR = 512


@dataclass(frozen=True)
class Entry:
    """What is written down.

    Attributes
    ----------
    private : str
        The X25519 key, in hexadecimal.
    round : int
        The last one for which words were masked.
    words : str
        SHA-256 of these words, unmasked.
    answered : str
        SHA-256 of whose words the centre said came, and what these sealed; empty before.
    """

    private: str
    round: int = 0
    words: str = ""
    answered: str = ""


class Book:
    """The file.

    Parameters
    ----------
    folder : Path
        Of the site's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def begin(self) -> bytes:
        """Make a new key for a run and return it.

        Raises
        ------
        ResumeError
            If it cannot be written.
        """
        private = keys.new()
        with _kept():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as partial:
                _put(partial, Entry(private.hex()), os.O_CREAT | os.O_TRUNC)
        return private

    def private(self) -> bytes:
        """Return the run's key.

        Raises
        ------
        ResumeError
            If the file is not there or damaged.
        """
        return bytes.fromhex(self._read().private)

    def mask(self, round: int, words: str) -> bool:
        """Write down that words of this digest are about to be masked; return whether they may be.

        Raises
        ------
        MessageError
            If a later round was masked already.
        """
        last = self._read()
        if round < last.round:
            raise MessageError(f"this site is to mask round {round} and has masked round {last.round}; begin a new run")
        if round == last.round:
            return words == last.words
        self._write(replace(last, round=round, words=words, answered=""))
        return True

    def answer(self, round: int, asked: str) -> None:
        """Write down what the centre said, by its digest, before it is answered.

        Raises
        ------
        MessageError
            If it is of a round that was not masked last, or this round was answered otherwise.
        """
        last = self._read()
        if round != last.round or last.answered not in ("", asked):
            raise MessageError(
                f"the centre asks for the masks of round {round} in two ways, which would show a single site's update; "
                "this site gives neither: find out who runs the centre"
            )
        self._write(replace(last, answered=asked))

    def _write(self, entry: Entry) -> None:
        with _kept():
            _put(self._path, entry)

    def _read(self) -> Entry:
        try:
            entry = Entry(**json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise ResumeError("the file with the masking key is gone or damaged; begin a new run", str(error)) from None
        if not is_digest(entry.private):
            raise ResumeError("the file with the masking key is damaged; begin a new run", str(self._path))
        return entry


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResumeError(f"the masking key cannot be kept: {unwritable('output')}", str(error)) from error


def _put(path: Path, entry: Entry, how: int = 0) -> None:
    record = json.dumps(vars(entry)).encode("ascii").ljust(_SECTOR)
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | how, 0o600)
    try:
        if os.write(handle, record) != _SECTOR:
            raise OSError("the disk took only part of a record")
        if hasattr(os, "posix_fadvise"):
            # Has Linux send it to the disk now and not in half a minute, and waits for nothing.
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
