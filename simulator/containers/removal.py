"""Removing containers and networks, which somebody else may be about at the same time.

Whatever happens to a run, its containers go: they are removed at its end or at the interpreter's exit; by a guard, if
the simulator was killed; and by the next run, which knows them by their labels, if the whole machine went down. Two of
these may meet over one container, and then the engine refuses the second.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from simulator.containers.identity import is_gone, own_identity

__all__ = ["OWNER", "RUN", "labels", "remove_container", "remove_run", "remove_stale"]

#: Label of everything that a run makes, with the run's name.
RUN = "org.coinstac-meshnet.run"
#: Label of everything that a run makes, with the identity of its simulator.
OWNER = "org.coinstac-meshnet.owner"

_REMOVAL = 20.0  # seconds in which containers and networks should be gone

_Removals = list[Callable[[], None]]


def labels(run: str) -> dict[str, str]:
    """Return what tells a run's containers and networks from all others."""
    return {RUN: run, OWNER: own_identity()}


def remove_run(client: Any, run: str) -> None:
    """Remove the containers and networks of a run.

    Parameters
    ----------
    client : docker.DockerClient
        Speaks to the engine.
    run : str
        Name of the run.

    Raises
    ------
    docker.errors.APIError
        If something is still there after 20 seconds.
    """
    filters = {"label": f"{RUN}={run}"}
    _until_gone(lambda: _containers(client, filters) + [net.remove for net in client.networks.list(filters=filters)])


def remove_container(client: Any, container: Any) -> None:
    """Remove one container, running or not; see `remove_run`."""
    _until_gone(lambda: _containers(client, {"id": container.id}))


def _containers(client: Any, filters: dict[str, str]) -> _Removals:
    found = client.containers.list(all=True, filters=filters, ignore_removed=True)
    return [partial(container.remove, force=True, v=True) for container in found]


def _until_gone(find: Callable[[], _Removals]) -> None:
    """Carry out the removals that `find` returns, until it returns none."""
    from docker.errors import APIError

    deadline = time.monotonic() + _REMOVAL
    while removals := find():
        for remove in removals:
            try:
                remove()
            except APIError:  # it is gone, or going; what is still there is tried again
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def remove_stale(client: Any) -> int:
    """Remove the containers and networks of runs on this machine whose simulator is no longer there.

    Parameters
    ----------
    client : docker.DockerClient
        Speaks to the engine.

    Returns
    -------
    int
        How many runs left something behind.
    """
    from docker.errors import APIError

    found = [thing.labels for thing in client.containers.list(all=True, filters={"label": RUN}, ignore_removed=True)]
    found += [network.attrs["Labels"] for network in client.networks.list(filters={"label": RUN})]
    stale = {label[RUN] for label in found if is_gone(label.get(OWNER, ""))}
    for run in sorted(stale):
        # Not being able to clear up after others is no reason to refuse a run.
        with contextlib.suppress(APIError):
            remove_run(client, run)
    return len(stale)
