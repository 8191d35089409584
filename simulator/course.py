"""How far a run has come, written down in every cycle, so that an interrupted one goes on where it stopped.

The nodes keep their own checkpoints; what the platform's manager holds besides is here: what the centre said last, and
each node's cache. It is written when the centre has answered and before its files travel, for they can be sent again;
a line in `cycles.jsonl` says that they have arrived. So there is no moment at which a kill or a full disk loses a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from computation.errors import MeshNetError, SimulatorError
from computation.tracking import lines
from computation.training import checkpoint
from simulator.result import Cycle

__all__ = ["Course", "Moment", "Order"]


@dataclass(frozen=True)
class Order:
    """What a run was asked to do.

    Attributes
    ----------
    tasks : list of dict
        Inputs of each site's first call; without a Weights & Biases key, which is never written.
    inputs : str
        The input folder.
    shuffle_seed : int or None
        Of the order in which sites reach the centre.
    remembered : dict
        What the caller needs to make the same engine again; plain JSON.
    """

    tasks: list[dict[str, Any]]
    inputs: str
    shuffle_seed: int | None = None
    remembered: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """Where a run stands once the centre has answered.

    Attributes
    ----------
    iteration : int
        The one that it answered.
    text : str
        Its output as JSON text.
    success : bool
        Whether the run is over.
    caches : dict
        Each node's cache.
    """

    iteration: int
    text: str
    success: bool
    caches: dict[str, dict[str, Any]]


def order(tasks: Sequence[Mapping[str, Any]], inputs: Path, seed: int | None, remembered: Mapping[str, Any]) -> Order:
    """Return what is to be written down of a run's tasks."""
    return Order([_without_key(task) for task in tasks], str(inputs), seed, dict(remembered))


def _without_key(task: Mapping[str, Any]) -> dict[str, Any]:
    wandb = task.get("wandb")
    if not isinstance(wandb, Mapping):
        return dict(task)
    return {**task, "wandb": {name: value for name, value in wandb.items() if name != "api_key"}}


class Course:
    """The record of one run, in a folder of its own.

    Parameters
    ----------
    folder : Path
        Made by `begin`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._order, self._plan = folder / "order.json", folder / "plan.json"
        self._cycles = folder / "cycles.jsonl"

    def begin(self, order: Order) -> None:
        """Write down what the run is to do; raises `MeshNetError` if that cannot be written."""
        lines.replace(self._order, json.dumps(asdict(order), allow_nan=False) + "\n")

    def order(self) -> Order:
        """Return what the run was to do.

        Raises
        ------
        SimulatorError
            If no run has begun here.
        """
        try:
            return Order(**json.loads(self._order.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SimulatorError(
                "there is no run to go on with in the output folder; name the folder of the interrupted one",
                f"{self._folder}: {error}",
            ) from error

    def stand(self, moment: Moment) -> None:
        """Write down where the run stands; raises `MeshNetError` if that cannot be written."""
        if moment.iteration == 1:
            lines.replace(self._plan, moment.text)
        checkpoint.save(self._folder, moment.iteration, {}, vars(moment))

    def arrived(self, cycle: Cycle) -> None:
        """Write down that the cycle's files are where they belong; raises `MeshNetError` if that cannot be written."""
        lines.append(self._cycles, json.dumps(vars(cycle), allow_nan=False))

    def latest(self) -> Moment:
        """Return where the run stands.

        Raises
        ------
        SimulatorError
            If it was interrupted before there was anything to keep.
        MeshNetError
            If the record is damaged.
        """
        known = checkpoint.iterations(self._folder)
        if not known:
            raise SimulatorError("the run was interrupted before its first iteration was over; start it anew")
        _, values = checkpoint.load(self._folder, known[-1])
        return Moment(**values)

    def plan(self) -> dict[str, Any]:
        """Return what the centre said first, or nothing where that is lost; it is only shown."""
        try:
            plan = json.loads(self._plan.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return plan if isinstance(plan, dict) else {}

    def cycles(self) -> list[Cycle]:
        """Return the cycles whose files have arrived, oldest first."""
        lines.mend(self._cycles)
        try:
            return [Cycle(**json.loads(line)) for line in lines.whole_lines(self._cycles)]
        except (ValueError, TypeError) as error:
            raise MeshNetError("the record of the interrupted run is damaged; start it anew", str(error)) from error
