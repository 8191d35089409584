"""One container's side of a run: begun at the first iteration, checkpointed after every call, restored after a restart.

The phases are `coinstac-computation`'s; what that library does badly is kept out: no process pool, no pickle, no votes,
and nothing that lives only in memory. See coinstac-computation 1.0.2, `nodes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from coinstac_computation import COINSTACPyNode, ComputationPhase

from computation.checks import is_text
from computation.coinstac import claim, leaving
from computation.errors import MessageError, ResumeError
from computation.tracking import Tracker
from computation.training import checkpoint

__all__ = ["Folders", "Phase", "Run", "Service"]

#: Phases of one side: the class and whether it repeats until the centre moves on.
Phases = Sequence[tuple[type[ComputationPhase], bool]]


class Run(Protocol):
    """What a side knows of its run: it can be written down and read back.

    Attributes
    ----------
    tracker : Tracker
        Is told what leaves this side.
    """

    tracker: Tracker

    @property
    def name(self) -> str:
        """Name of the run, empty until the centre gave it one."""
        ...

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything a restarted container needs: arrays, and plain JSON values."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Go back to what `record` wrote down."""
        ...

    @property
    def keep(self) -> int:
        """Number of checkpoints to keep."""
        ...


class Folders:
    """The four directories of COINSTAC's `state`, as paths."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.client = state.get("clientId", "")
        if not is_text(self.client, 200) or not self.client:
            raise MessageError("the call's state has no sound clientId; wanted a name of at most 200 characters")
        self.base, self.output, self.transfer = (_folder(state, name) for name in ("base", "output", "transfer"))

    @property
    def checkpoints(self) -> Path:
        """Where this container keeps what it needs after a restart."""
        return self.output / "checkpoints"


def _iteration(state: Mapping[str, Any]) -> int:
    number = state.get("iteration")
    if type(number) is not int or number < 1:
        raise MessageError("the call's state has no sound iteration; wanted a whole number from 1", repr(number)[:200])
    return number


def _folder(state: Mapping[str, Any], name: str) -> Path:
    given = state.get(f"{name}Directory")
    if not isinstance(given, str) or not given or "\0" in given:
        raise MessageError(f"the call's state has no sound {name}Directory; wanted a path", repr(given)[:200])
    # COINSTAC's are absolute; the simulator's are not where a folder's name is no text and cannot travel as JSON.
    path = Path(given)
    return path if path.is_absolute() else Path.cwd() / path


class Phase(ComputationPhase):  # type: ignore[misc]  # the library is not typed
    """A phase that finds its run in the node's cache."""

    @property
    def run(self) -> Any:
        """The side's run."""
        return self.cache["run"]


class _Node(COINSTACPyNode):  # type: ignore[misc]  # the library is not typed
    """The library's node without its process pool, which this computation never uses."""

    def _initialize(self) -> None:
        self.cache["input_args"] = {}

    def position(self) -> dict[str, Any]:
        """Return where the node stands among its phases, as plain JSON."""
        return {"index": self.cache[self._pipeline_.id]["index"], "next_phase": self.cache["next_phase"]}

    def move_to(self, position: Mapping[str, Any]) -> None:
        """Go to a recorded position, as if the earlier phases had been run in this process."""
        self.cache["input_args"] = {}
        self.cache[self.mode] = True
        self.cache[self._pipeline_.id]["index"] = int(position["index"])
        self.cache["next_phase"] = str(position["next_phase"])


class Service:
    """Answers COINSTAC's calls for one side of one run.

    Parameters
    ----------
    mode : str
        `local` or `remote`.
    phases : sequence of (phase class, bool)
        In order; the flag says whether the phase repeats until the centre ends it.
    begin : callable
        Makes the side's run from its folders.
    examine : callable
        Raises what is wrong with the first call's input, before anything of an earlier run is touched.

    Raises
    ------
    ResumeError
        From a call, if the process was restarted and finds no checkpoint of the iteration before.
    MeshNetError
        From a call, if the output folder cannot be written or another run has taken it.
    MessageError
        From a call that names no sound folders, or that begins a run while one is under way.
    """

    def __init__(
        self,
        mode: str,
        phases: Phases,
        begin: Callable[[Folders], Run],
        examine: Callable[[Any], object] = lambda inputs: None,
    ) -> None:
        self.mode = mode
        self._phases, self._begin, self._examine = phases, begin, examine
        self._iteration = 0
        self._saved, self._row = 0, 0  # the last checkpoint of this process, and how many it saved in a row
        self._token = ""
        self._node: _Node
        self._run: Run

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answer one call: `data` has `input`, `cache` and `state`; the reply has `output`, `cache` and `success`."""
        iteration, folders = _iteration(data["state"]), Folders(data["state"])
        if iteration == 1:
            if self._iteration > 0:
                raise MessageError("a run is under way in this process; start another process for another run")
            self._examine(data["input"])
            self._start(folders)
            self._token = claim.take(folders.output)
        elif iteration != self._iteration + 1:
            self._resume(folders, iteration, data.get("cache") or {})
        # A call that fails must not be taken for one that was answered.
        self._iteration = -1
        with claim.holding(folders.output, self._token):
            reply: dict[str, Any] = self._node.compute(data)
            # A checkpoint must not come among those of another run.
            claim.check(folders.output, self._token)
            # The library reads `success` from a phase's output and leaves it there; the platform wants it beside.
            reply["output"].pop("success", None)
            leaving.note(self._run.tracker, self.mode, reply["output"], folders.transfer)
            self._save(folders, iteration)
        self._iteration = iteration
        return {**reply, "cache": {"run": self._run.name, "token": self._token}}

    def _start(self, folders: Folders) -> None:
        self._node = _Node(self.mode)
        for phase, repeats in self._phases:
            self._node.add_phase(phase, multi_iterations=repeats)
        self._run = self._node.cache["run"] = self._begin(folders)

    def _resume(self, folders: Folders, iteration: int, cache: Mapping[str, Any]) -> None:
        self._token = str(cache.get("token", ""))
        claim.check(folders.output, self._token)
        arrays, values = checkpoint.load(folders.checkpoints, iteration - 1)
        expected = cache.get("run")
        if expected and values["run"] != expected:
            raise ResumeError(
                "the checkpoint in the output folder is of another run; start this run again in a folder of its own"
            )
        self._start(folders)
        self._node.move_to(values["position"])
        self._run.restore(arrays, values["state"])

    def _save(self, folders: Folders, iteration: int) -> None:
        arrays, state = self._run.record()
        values = {"run": self._run.name, "position": self._node.position(), "state": state}
        row, keep = self._row if iteration == self._saved + 1 else 0, self._run.keep
        checkpoint.save(folders.checkpoints, iteration, arrays, values, keep=keep, follows=row >= keep)
        self._saved, self._row = iteration, row + 1
