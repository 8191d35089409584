"""What a node's main process tells the job process that NVFlare starts for it, and what that one says of its end.

NVFlare starts the job process itself and passes the environment on, so one variable names a file that says the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from computation.errors import MessageError, public_text
from computation.files import replacing
from neuroflame.words import say

__all__ = ["ENDED", "FAILED", "RUNNING", "VARIABLE", "Places", "Status", "Timing"]

#: Names the file that `Places.tell` wrote.
VARIABLE = "COINSTAC_MESHNET_NODE"

RUNNING, ENDED, FAILED = "running", "ended", "failed"


@dataclass(frozen=True)
class Timing:
    """Seconds of patience, nearly all of them ends of something that would otherwise last for ever.

    Attributes
    ----------
    pulse : float
        Between two signs of life of a site.
    silence : float
        Without one, after which a site or the centre is given up; a network that is gone for some minutes should not
        end what has run for hours.
    start : float
        In which every site's job process must have given its first one.
    joining : float
        In which every member must have come.
    farewell : float
        For the sites to hear how the run ended.
    notice : float
        Without an answer, after which all are told who is waited for; it ends nothing.
    """

    pulse: float = 5.0
    silence: float = 900.0
    start: float = 300.0
    joining: float = 3600.0
    farewell: float = 60.0
    notice: float = 60.0


@dataclass(frozen=True)
class Places:
    """Where a node finds and leaves its files.

    Attributes
    ----------
    client : str
        The node's id.
    folder : Path
        Private to this node and this run.
    parameters : Path
        The leader's.
    output : Path
        For results.
    data : Path or None
        A site's.
    sites : tuple of str
        Ids of all sites; only the centre knows them.
    timing : Timing
        Limits.
    """

    client: str
    folder: Path
    parameters: Path
    output: Path
    data: Path | None = None
    sites: tuple[str, ...] = ()
    timing: Timing = field(default_factory=Timing)

    def tell(self) -> dict[str, str]:
        """Write them down and return the variables that let a job process find them."""
        path = self.folder / "node.json"
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        path.write_text(json.dumps(plain), encoding="utf-8")
        return {VARIABLE: str(path)}

    @classmethod
    def told(cls, environment: Mapping[str, str] = os.environ) -> Places:
        """Return what the main process wrote.

        Raises
        ------
        MessageError
            If this process was started by something else.
        """
        try:
            raw = json.loads(Path(environment[VARIABLE]).read_text(encoding="utf-8"))
        except (KeyError, OSError, ValueError) as error:
            raise MessageError(
                "this NVFlare process was not started by this computation's own script; use entry_central.py or "
                "entry_edge.py",
                str(error),
            ) from error
        paths = {name: raw[name] and Path(raw[name]) for name in ("folder", "parameters", "output", "data")}
        return cls(**{**raw, **paths, "sites": tuple(raw["sites"]), "timing": Timing(**raw["timing"])})

    @property
    def status(self) -> Status:
        """Return where the job process says how far it is."""
        return Status(self.folder / "status.json")

    @property
    def waiting(self) -> Status:
        """Return where the job process says who is waited for; its state stays `RUNNING`."""
        return Status(self.folder / "waiting.json")

    @property
    def beat(self) -> Path:
        """Return the file in which the centre's job process gives signs of life to its main process."""
        return self.folder / "beat"

    def pass_on(self, before: str) -> str:
        """Say aloud who is waited for, where that has changed; return it."""
        now: str = self.waiting.read()["reason"]
        if now != before:
            say(now or "all sites have answered")
        return now


class Status:
    """How far a node's job process is, in a file that its main process reads.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def say(self, state: str, reason: str = "", **more: Any) -> None:
        """Write it down; what has ended or failed stays so."""
        if self.over:
            return
        with replacing(self.path) as partial:
            partial.write_text(json.dumps({"state": state, "reason": reason, **more}), encoding="utf-8")

    def fail(self, error: BaseException) -> str:
        """Write down what went wrong, and return the sentence that all may read."""
        sentence = public_text(error)
        self.say(FAILED, sentence, private=str(error))
        return sentence

    @property
    def over(self) -> bool:
        """Whether it has ended or failed."""
        return self.read()["state"] in (ENDED, FAILED)

    def read(self) -> dict[str, Any]:
        """Return what was written last; an empty state where nothing was."""
        try:
            said: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"state": "", "reason": ""}
        return said
