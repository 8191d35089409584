"""What a run without a centre is asked to do, before anything has begun: the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation.coinstac.node import Folders
from computation.errors import PeersError
from computation.settings import parse
from peers.options import Choice
from peers.protocols.base import Rule
from simulator import inputspec
from simulator.layout import RUN, Layout

__all__ = ["Order", "folders", "order", "own_folders"]

#: Strategies whose halves at a site, a gradient or local steps, are all that there is to them.
_HALVES = ("gradient-mean", "fedavg")
#: Seconds to wait for a silent peer: a year.
_LONGEST = 365.0 * 86400


@dataclass(frozen=True)
class Order:
    """What is to be run.

    Attributes
    ----------
    tasks : dict of dict
        Each peer's inputs, by its name, which is that of its site's folder.
    inputs : Path
        Holds each site's files, `local0/simulatorRun` and so on.
    output : Path
        Gets everything that the run writes.
    choice : Choice
        The protocol.
    patience : float
        Seconds after which a peer that says nothing is taken for gone.
    """

    tasks: Mapping[str, Mapping[str, Any]]
    inputs: Path
    output: Path
    choice: Choice
    patience: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the peers."""
        return tuple(sorted(self.tasks))

    def rule(self, name: str) -> Rule:
        """Return the protocol as one peer's settings have it; raises `SettingsError` if they cannot be used."""
        return self.choice.rule(parse(self.tasks[name])[0])

    @property
    def layout(self) -> Layout:
        """Where everything of the run lies."""
        return Layout(self.output)


def order(
    spec: inputspec.Spec, *, inputs: Path, output: Path, peers: int | None, choice: Choice, patience: float
) -> Order:
    """Return what a run is to do.

    Parameters
    ----------
    spec : list or dict
        What inputspec.json holds.
    inputs, output, choice, patience
        See `Order`.
    peers : int, optional
        How many; by default one for each entry of the spec.

    Raises
    ------
    PeersError
        If there is only one, the patience is no time to wait, updates are to be masked, or a strategy is wanted that
        is not the protocol's.
    SimulatorError
        If the spec has fewer entries than peers.
    """
    if not 0 < patience <= _LONGEST:
        raise PeersError(f"--patience is {patience:g}; wanted more than 0 seconds, and {_LONGEST:g} at most")
    tasks = inputspec.fulfil(spec, peers)
    if len(tasks) < 2:
        raise PeersError("one peer alone has nobody to learn with; wanted two or more, or `coinstac-meshnet train`")
    if any(task.get("secure_aggregation") for task in tasks):
        raise PeersError("setting 'secure_aggregation' hides updates from a centre, and here is none; wanted it off")
    for task in tasks:
        _check_strategy(task.get("strategy", choice.strategy), choice)
    # What a peer does in a round by itself follows from the protocol.
    made = inputspec.by_client({**task, "strategy": choice.strategy} for task in tasks)
    return Order(made, inputs.resolve(), output.resolve(), choice, patience)


def _check_strategy(strategy: Any, choice: Choice) -> None:
    """Refuse inputs that want more of a strategy than its local half, which is all that most protocols take of it."""
    if strategy not in (choice.strategy, *_HALVES):
        raise PeersError(
            f"the inputs name strategy {str(strategy)[:40]!r}, and protocol {choice.protocol} does not do that; name "
            "another --protocol (`coinstac-meshnet peers --list`), or leave 'strategy' out"
        )


def folders(order: Order, name: str) -> Folders:
    """Return a peer's folders in a layout that was prepared."""
    return Folders(order.layout.state(name))


def own_folders(order: Order, name: str) -> Folders:
    """Make a peer's folders where nobody prepared any for all: on a machine that may have this site's files only.

    Raises
    ------
    PeersError
        If the site's folder is not there.
    """
    base = order.inputs / name / RUN
    if not base.is_dir():
        raise PeersError(f"{name} has no input folder here; wanted {name}/{RUN} in --input", str(base))
    layout = Layout(order.output / name)
    for folder in (layout.output(name), layout.transfer(name)):
        folder.mkdir(parents=True, exist_ok=True)
    return Folders({**layout.state(name), "baseDirectory": str(base)})
