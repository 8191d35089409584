"""What a site must know after it was killed: which run it is in, and what it has answered and not yet seen counted.

An answer is written down before it is sent, with its files. So it is computed once, and the one that is sent after a
restart is the one that may have arrived before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from computation.checks import parse_json
from computation.errors import MeshNetError, ResumeError, unwritable
from computation.files import replacing

__all__ = ["Begun", "Journal", "Pending"]

_BEGUN, _ANSWER = "joined.json", "answer.json"


@dataclass(frozen=True)
class Begun:
    """The run that a folder is of.

    Attributes
    ----------
    run, site, spec : str
        Id of the run, the site's name in it, and the digest of the spec that it consented to.
    """

    run: str
    site: str
    spec: str


@dataclass(frozen=True)
class Pending:
    """An answer that the service may not have yet.

    Attributes
    ----------
    step : int
        That it answers.
    base : str
        Digest of the result that it answers; empty at the join.
    message : mapping
        Plain JSON values.
    files : mapping of bytes
        By name.
    """

    step: int
    base: str
    message: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)


class Journal:
    """Of one site in one run, in a folder of its own; only one process uses it.

    Parameters
    ----------
    folder : Path
        Must be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begun(self) -> Begun | None:
        """Return the run that the folder is of; None where it is of none yet.

        Raises
        ------
        ResumeError
            If what was written is damaged.
        """
        try:
            return Begun(**self._read(_BEGUN))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ResumeError("the folder's record of the run is damaged; join anew in another", str(error)) from None

    def begin(self, run: Begun) -> None:
        """Write down the run, before anything of it."""
        self._write(_BEGUN, asdict(run))

    def keep(self, answer: Pending) -> None:
        """Write an answer down; it takes the place of the one before.

        Raises
        ------
        MeshNetError
            If the folder takes no file.
        """
        files = {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in answer.files.items()}
        for name, content in answer.files.items():
            self._put(name, content)
        kept = {"step": answer.step, "base": answer.base, "message": dict(answer.message), "files": files}
        self._write(_ANSWER, kept)

    def pending(self, step: int) -> Pending | None:
        """Return the answer to a step, if it is the one that was kept last and whole; else it is to be computed again.

        Parameters
        ----------
        step : int
            The step.
        """
        try:
            kept = self._read(_ANSWER)
            files = {name: (self._folder / name).read_bytes() for name in kept["files"]}
            known = {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in files.items()}
            whole = kept["step"] == step and known == kept["files"]
            return Pending(step, kept["base"], kept["message"], files) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _read(self, name: str) -> Any:
        return parse_json((self._folder / name).read_bytes())

    def _write(self, name: str, table: Mapping[str, Any]) -> None:
        self._put(name, json.dumps(table, allow_nan=False).encode())

    def _put(self, name: str, content: bytes) -> None:
        try:
            with replacing(self._folder / name) as partial:
                partial.write_bytes(content)
        except OSError as error:
            raise MeshNetError(unwritable("output"), str(error)) from error
