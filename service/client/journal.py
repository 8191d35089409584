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

_BEGUN, _ANSWER = "joined.json", "answer.bin"


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

        One file holds all of it, a line of JSON and then the files' bytes: it is written in every round.

        Raises
        ------
        MeshNetError
            If the folder takes no file.
        """
        files = [[name, len(content), hashlib.sha256(content).hexdigest()] for name, content in answer.files.items()]
        kept = {"step": answer.step, "base": answer.base, "message": dict(answer.message), "files": files}
        header = json.dumps(kept, allow_nan=False).encode()
        # The one before is needed no more, and some file systems wait for the disk where a file takes another's place.
        self._put(_ANSWER, b"\n".join([header, b"".join(answer.files.values())]), anew=True)

    def pending(self, step: int) -> Pending | None:
        """Return the answer to a step, if it is the one that was kept last and whole; else it is to be computed again.

        Parameters
        ----------
        step : int
            The step.
        """
        try:
            header, _, rest = (self._folder / _ANSWER).read_bytes().partition(b"\n")
            kept, files = parse_json(header), {}
            if kept["step"] != step:
                return None
            for name, size, sha256 in kept["files"]:
                files[name], rest = rest[:size], rest[size:]
                if len(files[name]) != size or hashlib.sha256(files[name]).hexdigest() != sha256:
                    return None
            return Pending(step, kept["base"], kept["message"], files)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _read(self, name: str) -> Any:
        return parse_json((self._folder / name).read_bytes())

    def _write(self, name: str, table: Mapping[str, Any]) -> None:
        self._put(name, json.dumps(table, allow_nan=False).encode())

    def _put(self, name: str, content: bytes, anew: bool = False) -> None:
        try:
            if anew:
                (self._folder / name).unlink(missing_ok=True)
            with replacing(self._folder / name) as partial:
                partial.write_bytes(content)
        except OSError as error:
            raise MeshNetError(unwritable("output"), str(error)) from error
