"""What a simulated run came to: the centre's last word, and what was measured on the way."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.errors import SimulatorError, unwritable
from computation.files import replacing

__all__ = ["Cycle", "Result", "write_summary"]


@dataclass(frozen=True)
class Cycle:
    """One iteration: every site once, then the centre.

    Attributes
    ----------
    iteration : int
        From 1, as in COINSTAC's `state`.
    seconds : float
        From the first call to the last file in place.
    messages_up, files_up : int
        Bytes of the JSON outputs and of the files that all sites sent to the centre.
    messages_down, files_down : int
        Bytes that all sites received from the centre.
    """

    iteration: int
    seconds: float
    messages_up: int
    files_up: int
    messages_down: int
    files_down: int

    @property
    def bytes(self) -> int:
        """Bytes in both directions, as they are before the platform packs them."""
        return self.messages_up + self.files_up + self.messages_down + self.files_down


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes
    ----------
    output : dict
        The centre's final output.
    sites : tuple of str
        Client ids of the sites.
    cycles : tuple of Cycle
        All iterations.
    restarts : dict of int
        How often each node's process had to be started again.
    seconds : float
        Duration of the whole run, from the start of the processes to the last file in place; of a resumed run, without
        what lay between its parts and what was done twice.
    resumed_after : int
        The iteration after which the last interruption came; 0 if there was none.
    """

    output: dict[str, Any]
    sites: tuple[str, ...]
    cycles: tuple[Cycle, ...]
    restarts: dict[str, int]
    seconds: float
    resumed_after: int = 0

    @property
    def seconds_per_round(self) -> float:
        """Median duration of an iteration."""
        return statistics.median(cycle.seconds for cycle in self.cycles)

    @property
    def bytes_per_round(self) -> int:
        """Median bytes of an iteration, both ways, all sites together."""
        return statistics.median_low(cycle.bytes for cycle in self.cycles)

    def summary(self) -> dict[str, Any]:
        """Return the centre's final output with the measured figures added."""
        return {
            "sites": {site: {} for site in self.sites},
            **self.output,
            "iterations": self.cycles[-1].iteration,
            "seconds": round(self.seconds, 3),
            "seconds_per_round": self.seconds_per_round,
            "bytes_per_round": self.bytes_per_round,
            "bytes_up": sum(cycle.messages_up + cycle.files_up for cycle in self.cycles),
            "bytes_down": sum(cycle.messages_down + cycle.files_down for cycle in self.cycles),
            "restarts": self.restarts,
            **({"resumed_after_iteration": self.resumed_after} if self.resumed_after else {}),
        }


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON, whole or not at all.

    Raises
    ------
    ValueError
        If a number is not finite.
    SimulatorError
        If the file cannot be written.
    """
    text = json.dumps(summary, indent=2, allow_nan=False)
    try:
        with replacing(path) as partial:
            partial.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise SimulatorError(f"the summary cannot be written: {unwritable('output')}", str(error)) from error
