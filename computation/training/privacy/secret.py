"""A site's secret for one run, and the book of what it was used for; both stay in the site's output folder.

A round is answered for one model only. Whoever could have the same round computed on two models, by sending a site back
to an earlier checkpoint, would get two answers for the price of one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from computation.errors import MeshNetError, PrivacyError, ResumeError, unwritable
from computation.files import plain

__all__ = ["Secret"]

_KEY, _BOOK = "privacy.key", "privacy.log"
_SIZE = 32


class Secret:
    """Random bytes that never leave the site.

    Parameters
    ----------
    folder : Path
        The site's own; made if missing.
    resumed : bool
        Whether the run has begun, so that a secret must be there.

    Attributes
    ----------
    key : bytes
        The secret.

    Raises
    ------
    ResumeError
        If a run goes on whose secret is gone: its noise could not be repeated.
    MeshNetError
        If the folder takes no file, or what lies there is no secret.
    """

    def __init__(self, folder: Path, *, resumed: bool = False) -> None:
        self._folder = folder
        self.key = self._held(resumed)
        self._torn = False
        self._answered = self._read()

    def _held(self, resumed: bool) -> bytes:
        path = self._folder / _KEY
        if not resumed:
            try:
                with suppress(FileExistsError):
                    _make(path)
            except OSError as error:
                raise MeshNetError(unwritable("output"), str(error)) from error
        try:
            with plain(path) as file:
                key = file.read(_SIZE + 1)
        except OSError as error:
            raise ResumeError(
                "the secret of this site's noise is gone from its output folder, and the noise of a round cannot be "
                "repeated without it; start the run again",
                str(error),
            ) from error
        if len(key) != _SIZE:
            raise MeshNetError("the secret in this site's output folder is damaged; start the run again", str(path))
        return key

    def _read(self) -> dict[int, str]:
        """Return for which model each round was answered; a last line that was cut off was never acted upon."""
        try:
            with plain(self._folder / _BOOK) as file:
                *lines, rest = file.read().decode("ascii", errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise MeshNetError(unwritable("output"), str(error)) from error
        self._torn = bool(rest)
        rows = [line.split(" ") for line in lines]
        return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdecimal()}

    def use(self, round: int, purpose: str) -> str:
        """Note that a round is answered, before it is, and return what keys its random numbers.

        Parameters
        ----------
        round : int
            From 1.
        purpose : str
            All that the answer depends on: the run, the model, the noise.

        Raises
        ------
        PrivacyError
            If the round was answered for another purpose.
        """
        told = hashlib.sha256(purpose.encode()).hexdigest()
        before = self._answered.get(round)
        if before is None:
            self._note(round, told)
        elif before != told:
            raise PrivacyError(
                f"round {round} was answered for another model already; under 'dp' a round is answered once"
            )
        return f"{round} {told}"

    def _note(self, round: int, told: str) -> None:
        line = f"{'' if not self._torn else chr(10)}{round} {told}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._torn = True  # a full disk may take half of it, and the site goes on with the next round
        with os.fdopen(os.open(self._folder / _BOOK, flags, 0o600), "ab") as file:
            file.write(line.encode("ascii"))
        self._answered[round], self._torn = told, False


def _make(path: Path) -> None:
    """Write a new secret, for its owner's eyes only; raises `FileExistsError` if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_SIZE))
    except OSError:
        path.unlink()  # half a secret would be in the way of the next attempt
        raise
