"""A task that has begun, as its requester's folder keeps it: `task.json`, readable by its owner alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from computation.checks import parse_json
from computation.errors import PeersError
from computation.files import replacing
from peers.mesh.wish import Wish

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """A task that has begun: enough to come back for its result.

    Attributes
    ----------
    name : str
        Its own.
    wish : Wish
        What was asked for.
    workers : tuple of (str, str, str)
        Name, address and key of each provider, the leader first.
    """

    name: str
    wish: Wish
    workers: tuple[tuple[str, str, str], ...]

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read it from a requester's folder.

        Raises
        ------
        PeersError
            If there is none.
        """
        try:
            found = parse_json((folder / "task.json").read_bytes())
            return cls(found["name"], Wish(**found["wish"]), tuple((a, b, c) for a, b, c in found["workers"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PeersError("there is no task here to come back for; wanted the folder of one", str(error)) from error

    def write(self, folder: Path) -> None:
        """Write it."""
        text = json.dumps({"name": self.name, "wish": self.wish.as_json(), "workers": self.workers})
        with replacing(folder / "task.json") as partial:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
