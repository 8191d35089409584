"""A run without a centre in virtual time: all peers in one process, each on its own site's scans."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Generator
from contextlib import redirect_stderr
from typing import Any

from computation.errors import MeshNetError
from computation.tracking import RoundNumbers
from peers.course import Course, Outcome
from peers.engines import virtual
from peers.engines.network import Network
from peers.peer import Peer
from peers.plan import Order, folders
from peers.requests import Request, require
from simulator.result import write_summary

__all__ = ["simulate"]

#: Hears of the rounds of the first peer.
Told = Callable[[RoundNumbers], object]


def simulate(order: Order, network: Network, told: Told = lambda _: None) -> dict[str, Any]:
    """Run all peers in virtual time, and write `summary.json` into the output folder.

    Parameters
    ----------
    order : Order
        What is to be run.
    network : Network
        What messages and batches cost.
    told : callable, optional
        Hears the numbers of each of the first peer's rounds.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    PeersError
        If the run cannot begin or go on.
    SimulatorError
        If the output folder cannot be used.
    """
    rule = order.choice.rule()
    require(order.choice.protocol, rule.needs, "virtual", virtual.OFFERS)
    with order.layout.held():
        order.layout.prepare(order.names, order.inputs)
        # Every peer's lines would stand among the others'; each has them in its own log.
        with redirect_stderr(io.StringIO()):
            outcome = virtual.run({name: _starter(order, name, told) for name in order.names}, network)
        summary = _summary(order, outcome)
        write_summary(order.layout.summary, summary)
    return summary


def _starter(order: Order, name: str, told: Told) -> virtual.Start[Outcome]:
    started = False

    def start() -> tuple[Peer, Generator[Request, Any, Outcome]]:
        """Begin, or, after an outage, go on from the peer's last checkpoint."""
        nonlocal started
        resume, started = started, True
        observer = told if name == order.names[0] else None
        try:
            course = Course(
                name,
                order.names,
                folders(order, name),
                order.tasks[name],
                order.rule(name),
                _run(order),
                patience=order.patience,
                observer=observer,
                resume=resume,
            )
        except MeshNetError as error:  # of its own scans and settings: it does not know that there are others
            raise type(error)(f"peer {name}: {error.public}", error.private) from error
        return course.peer, course.steps()

    return start


def _run(order: Order) -> str:
    """Return the run's name; it follows from what is run, so that a run replayed has the bits of the first."""
    text = json.dumps(
        [order.choice.as_json(), {name: dict(task) for name, task in order.tasks.items()}], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _summary(order: Order, outcome: virtual.Outcome[Outcome]) -> dict[str, Any]:
    first = outcome.values[min(outcome.values)]
    return {
        **first.summary,
        "protocol": str(order.choice),
        "engine": "virtual",
        "virtual_seconds": outcome.seconds,
        "seconds_per_batch": outcome.seconds_per_batch,
        "traffic": outcome.traffic.summary(),
        "outages": [f"{event.name} {event.what} at {event.seconds:.3f} s" for event in outcome.events],
    }
