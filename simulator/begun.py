"""A resumed run is the one that began: what the command line says besides must not be something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from computation.errors import SimulatorError
from simulator import inputspec
from simulator.course import Order

__all__ = ["refuse_others"]

#: What the command line adds to an inputspec, or is not written down whole.
_ADDED = ("initial_model", "deadline", "data", "wandb")


def refuse_others(order: Order, options: Mapping[str, Any]) -> None:
    """Refuse options of `simulate` that are not those of the interrupted run; what was not given is as it began.

    Parameters
    ----------
    order : Order
        What the run began with.
    options : mapping
        By name; `docker` is what containers may use, or None.

    Raises
    ------
    SimulatorError
        Naming the option; or if the run is one without a centre.
    """
    if "choice" in order.remembered:
        raise SimulatorError(
            "the run in the output folder has no centre; go on with it by `coinstac-meshnet peers run --resume`"
        )
    if options["initial_model"] or options["deadline"]:
        raise SimulatorError("an interrupted run keeps its model and the time that is left; leave the option out")
    began, docker = order.remembered.get("docker"), options["docker"]
    given = {
        "--sites": (options["sites"], len(order.tasks)),
        "--shuffle": (options["shuffle"], order.shuffle_seed),
        "--input": (options["input"] and str(options["input"].resolve()), order.inputs),
        "--engine": (options["engine"], "docker" if began else "process"),
        "the containers' options": (docker and asdict(docker), began),
    }
    if options["inputspec"]:
        tasks = inputspec.fulfil(inputspec.read(options["inputspec"]), len(order.tasks))
        given["the inputspec"] = (_comparable(tasks), _comparable(order.tasks))
    for name, (wanted, was) in given.items():
        if wanted is not None and wanted != was:
            raise SimulatorError(f"the run in the output folder began with another value of {name}; leave it out")


def _comparable(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in task.items() if name not in _ADDED} for task in tasks]
