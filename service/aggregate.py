"""The centre of one run in this process: COINSTAC's own handler over the updates of a claim.

It stays warm from one step to the next. What it must remember is kept as a blob with each result, so that another
process, or this one after a fall, goes on from the last published step and comes to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computation import remote
from computation.coinstac.carried import Answer, Carried
from computation.errors import ServiceError
from computation.federation import initial
from computation.wire.payload import PREFIX
from service.blobs.base import SMALL
from service.cases import closing, starting
from service.cases.closing import Claim, Made
from service.cases.desk import Desk, content_key, state_key
from service.protocol import File, Stored, canonical
from service.protocol.course import follow
from service.state import LARGEST, Memory, restore

__all__ = ["Centre"]

_NAME = "remote"
#: What the centre writes for people, and where it lies in its output folder.
_PAPERS = ("index.html", "model-card.md", "journal.jsonl", "metrics.csv")


class Centre:
    """The centre of one run; close it at the end.

    Parameters
    ----------
    desk : Desk
        Where updates are read and results are kept.
    run : str
        Id of the run, which is its name on the wire too.
    folder : Path
        Of this centre and nobody else; emptied at the beginning, and removed at the end.
    before : str
        Key of the state from which it goes on; empty at the join.

    Raises
    ------
    ServiceError
        If that state cannot be read.
    """

    def __init__(self, desk: Desk, run: str, folder: Path, before: str = "") -> None:
        self._desk, self._run, self._folder = desk, run, folder
        shutil.rmtree(folder, ignore_errors=True)
        if before:
            restore(folder, before, lambda key: desk.blobs.read(key, LARGEST))
        self._memory, self._along = Memory(folder), dict[str, bytes]()
        self._carried = Carried(remote.create(run), folder, _NAME)

    @property
    def iteration(self) -> int:
        """The last call that was answered, counted as COINSTAC does: one more than the step."""
        return self._carried.iteration

    def close(self) -> None:
        """Let go of the folder, and remove it."""
        self._carried.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def answer(self, claim: Claim) -> Made:
        """Let the handler answer a claimed step, and keep what its publication will speak of, unless it is small.

        Raises
        ------
        MessageError
            With one sentence, if the handler fails.
        ServiceError
            If an update, or what this keeps, cannot be read or written.
        """
        self._along = {}
        if claim.step.phase == "join":
            self._start_from_uploaded(claim)
        answer = self._carried.call(claim.step.number + 1, *self._arrived(claim))
        files = self._keep_all(answer.files)
        papers = self._papers() if answer.success else ()
        state, done = ("", ()) if answer.success else self._remember(claim)
        result = closing.result(self._desk, canonical(answer.output), files, papers, state, answer.success)
        course = None if answer.success else follow(claim.step, answer.output)
        payload = _payload(answer) if claim.step.phase == "join" else 0
        return Made(result, course, payload, self._along, done)

    def _start_from_uploaded(self, claim: Claim) -> None:
        """Give the handler the model that the coordinator uploaded, where the spec names one and it did."""
        model = starting.kept(self._desk, self._run, claim.run.wanted)
        if model is not None:
            initial.put(self._carried.base, model)

    def _arrived(self, claim: Claim) -> tuple[dict[str, Any], dict[str, dict[str, bytes]]]:
        """Return messages and files of the frozen list, each file read and held against it once more."""
        messages = {one.site: json.loads(one.message) for one in claim.updates}
        return messages, {one.site: {file.name: self._read(file) for file in one.files} for one in claim.updates}

    def _read(self, file: Stored) -> bytes:
        content = self._desk.blobs.read(file.key, file.size)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ServiceError("a committed file is not what was committed; the service's files were changed", file.key)
        return content

    def _keep_all(self, files: Mapping[str, bytes]) -> tuple[File, ...]:
        return tuple(self._keep(name, content) for name, content in sorted(files.items()))

    def _keep(self, name: str, content: bytes) -> File:
        sha256 = hashlib.sha256(content).hexdigest()
        self._write(content_key(self._run, sha256), content)
        return File(name, len(content), sha256)

    def _papers(self) -> tuple[File, ...]:
        paths = [self._carried.output / name for name in _PAPERS]
        return tuple(self._keep(path.name, path.read_bytes()) for path in paths if path.is_file())

    def _write(self, key: str, content: bytes) -> None:
        """Keep a file now, while the claim is renewed, or with the publication where that takes no time."""
        if len(content) > SMALL:
            self._desk.blobs.write(key, content)
        else:
            self._along[key] = content

    def _remember(self, claim: Claim) -> tuple[str, Sequence[str]]:
        """Keep the state; return its key, and those of what nobody needs once it is published."""
        # Each attempt has a state of its own: the times in its journal are its own.
        name = f"{state_key(self._run)}/{claim.step.number:010d}-{secrets.token_hex(8)}"
        kept = self._memory.keep(self.iteration, name)
        for key, blob in kept.blobs.items():
            self._write(key, blob)
        return kept.key, kept.done


def _payload(answer: Answer) -> int:
    return len(answer.files[f"{PREFIX}model.bin"])
