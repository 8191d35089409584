"""Runs a consortium through COINSTAC's own pipeline code and returns what came of it; see driver/run.js."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = ROOT / ".platform"
RUN = "simulatorRun"

#: How each kind of computation is started without Docker, and its image.
PRODUCT = ((sys.executable, str(ROOT / "computation" / "entry.py")), "coinstacteam/coinstac-meshnet")
ECHO = ((sys.executable, str(HERE / "echo" / "entry.py")), "coinstac-meshnet-echo")
IDLE = ((sys.executable, str(HERE / "idle" / "entry.py")), "coinstac-meshnet-idle")

#: Sums over voxels depend on how many threads share them, so runs whose bits are compared all use one.
THREADS = {"OMP_NUM_THREADS": "1"}

_SPARE = 40  # seconds that the driver has after its own deadline to clear away what it started


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes
    ----------
    status : int
        The driver's exit status: 0 every node finished, 1 a node failed, 3 the deadline passed.
    reason : str
        Why it did not finish, in words.
    nodes : dict
        `{"result": ...}` or `{"error": text}` of each node, empty after the deadline.
    calls : dict
        Each node's calls: iteration, began and ended in milliseconds.
    starts : dict
        Each node's starts: asked, started and, where measured, answered in milliseconds.
    faults : list of dict
        The faults that did happen.
    unhandled : list of str
        Rejections that nobody caught, which would crash COINSTAC's own client.
    folder : Path
        The operating directory.
    """

    status: int
    reason: str
    nodes: dict[str, dict[str, Any]]
    calls: dict[str, list[dict[str, float]]]
    starts: dict[str, list[dict[str, float]]]
    faults: list[dict[str, Any]]
    unhandled: list[str]
    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        """Final output as each node received it."""
        return {node: end["result"] for node, end in self.nodes.items() if "result" in end}

    @property
    def errors(self) -> dict[str, str]:
        """Error text of each node that failed."""
        return {node: end["error"] for node, end in self.nodes.items() if "error" in end}

    @property
    def rounds(self) -> list[float]:
        """Milliseconds of each cycle but the first two, from one end of the centre's call to the next."""
        ends = [call["ended"] for call in self.calls["remote"] if "ended" in call]
        return [after - before for before, after in itertools.pairwise(ends[1:])]

    @property
    def round(self) -> float:
        """Median of `rounds`."""
        return statistics.median(self.rounds)

    def output(self, node: str) -> Path:
        """Return a node's output folder on this machine."""
        return self.folder / "output" / node / RUN

    def inputs(self, node: str) -> Path:
        """Return a node's input folder on this machine."""
        return self.folder / "input" / node / RUN

    def log(self, node: str) -> str:
        """Return everything that a node printed, over all its starts."""
        return "\n".join(
            path.read_text(errors="replace") for path in sorted((self.folder / "logs").glob(f"{node}*.log"))
        )


def drive(
    folder: Path,
    mode: str,
    inputs: Sequence[Mapping[str, Any]],
    *,
    kind: tuple[tuple[str, ...], str] = PRODUCT,
    compspec: Path = ROOT / "compspec.json",
    deadline: float = 120,
    container: Mapping[str, Any] | None = None,
    **more: Any,
) -> Outcome:
    """Run a consortium with one site for each of `inputs`.

    `container` holds further options of Docker's create call; other keywords go into the driver's configuration.

    Raises
    ------
    RuntimeError
        If the driver itself failed or did not end.
    """
    command, image = kind
    config = {
        "modules": str(MODULES),
        "mode": mode,
        "directory": str(folder),
        "compspec": json.loads(compspec.read_text()),
        "inputs": list(inputs),
        "command": command,
        "cwd": str(ROOT),
        "environment": {"PYTHONPATH": str(ROOT), **THREADS},
        "image": image,
        "containers": {"*": {"Env": [f"{name}={value}" for name, value in THREADS.items()], **(container or {})}},
        "deadline": deadline,
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return _outcome(folder, *_node(folder, deadline + _SPARE))


def _node(folder: Path, seconds: float) -> tuple[int, str]:
    """Run the driver; its own log goes to driver.log, its result is returned."""
    command = ["node", str(HERE / "driver" / "run.js"), str(folder / "config.json")]
    with (folder / "driver.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(os.environ))
        try:
            text, _ = process.communicate(timeout=seconds)
        except BaseException:
            process.terminate()  # it clears its processes and containers away
            process.wait(_SPARE)
            raise
    return process.returncode, text


def _outcome(folder: Path, status: int, text: str) -> Outcome:
    if status not in (0, 1, 3):
        raise RuntimeError(f"the driver failed with status {status}: {(folder / 'driver.log').read_text()[-2000:]}")
    seen = json.loads(text.splitlines()[-1])
    del seen["ok"]
    return Outcome(status=status, folder=folder, **seen)
