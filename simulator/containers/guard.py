"""A process that waits for the simulator's death and clears up after it, however it died: `guard RUN`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from computation import isolation
from simulator.containers.client import connect
from simulator.containers.removal import remove_run

__all__ = ["start"]


def start(run: str) -> subprocess.Popen[bytes]:
    """Start the process that removes the containers of a run when this one dies, however it dies."""
    # By its path, as a node: nothing of the working directory is imported.
    command = [sys.executable, str(Path(__file__).resolve()), run]
    # In a session of its own, so that a Ctrl-C on the terminal does not reach it.
    variables = {**os.environ, **isolation.variables()}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=variables, start_new_session=True)


def _stand(run: str) -> None:
    """Wait until the simulator has closed its end of our standard input by dying, then clear up after it."""
    sys.stdin.read()
    remove_run(connect(), run)


if __name__ == "__main__":
    _stand(sys.argv[1])
