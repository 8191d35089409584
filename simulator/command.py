"""`coinstac-meshnet simulate`: run a consortium on this machine, in processes or in containers, without a network."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from computation.checks import is_number
from computation.errors import SimulatorError
from simulator import embedded, inputspec
from simulator.containers.engine import DockerEngine
from simulator.containers.options import IMAGE, NETWORKS, DockerOptions
from simulator.progress import LiveProgress
from simulator.result import Result, write_summary

__all__ = ["add_arguments", "add_commands", "run", "simulate", "table"]


def add_commands(commands: Any) -> None:
    """Register `simulate` among the sub-commands of an argument parser."""
    text = "run all sites and the centre on this machine, over COINSTAC's own protocol"
    parser = commands.add_parser("simulate", help=text, description=text)
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.add_argument("inputspec", type=Path, nargs="?", default=Path("inputspec.json"), help="the sites' inputs")
    parser.add_argument(
        "--input", type=Path, help="holds local0/simulatorRun and so on; default: test/input or input beside it"
    )
    parser.add_argument("--output", type=Path, default=Path("run"), help="folder for everything the run writes")
    parser.add_argument("--sites", type=int, help="number of sites; default: one for each entry of the inputspec")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="shuffle the order in which sites reach the centre")
    parser.add_argument("--engine", choices=("process", "docker"), default="process", help="what the nodes run in")
    docker = parser.add_argument_group("with --engine docker")
    docker.add_argument("--image", help=f"default: {IMAGE}")
    docker.add_argument("--gpus", help="for each site: all, a number, or device=0,1; default: none")
    docker.add_argument("--memory", help="limit for each container, such as 4g; default: none")
    docker.add_argument("--cpus", type=float, help="limit for each container, such as 1.5; default: none")
    docker.add_argument("--network", choices=NETWORKS, help="default: none, that is no way out of the containers")


def run(options: argparse.Namespace) -> None:
    """Run a simulation, show it, and write `summary.json` into its output folder.

    Raises
    ------
    SimulatorError
        If it cannot be started or does not finish.
    """
    spec = inputspec.read(options.inputspec)
    inputs = options.input or _inputs_beside(options.inputspec)
    docker = _docker(options)
    simulate(
        spec, inputs=inputs, output=options.output, sites=options.sites, shuffle_seed=options.shuffle, docker=docker
    )


def _docker(options: argparse.Namespace) -> DockerOptions | None:
    """Return what containers may use, or None where there are none."""
    names = ("image", "gpus", "memory", "cpus", "network")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.engine == "docker":
        return DockerOptions(**given)
    if given:
        raise SimulatorError(f"--{next(iter(given))} is for containers; add --engine docker")
    return None


def simulate(
    spec: inputspec.Spec,
    *,
    inputs: Path,
    output: Path,
    sites: int | None = None,
    shuffle_seed: int | None = None,
    docker: DockerOptions | None = None,
    console: Console | None = None,
) -> Result:
    """Run a consortium with live progress, then show and write its summary.

    Parameters
    ----------
    spec, inputs, output, sites, shuffle_seed
        As in `embedded.run`.
    docker : DockerOptions, optional
        Run the nodes in containers that may use so much; in processes by default.
    console : Console, optional
        Where to show it.

    Raises
    ------
    SimulatorError
        If it cannot be started or does not finish.
    """
    console = console or Console()
    with LiveProgress(console) as progress:
        result = embedded.run(
            spec,
            inputs=inputs,
            output=output,
            engine=partial(DockerEngine, docker) if docker else None,
            sites=sites,
            shuffle_seed=shuffle_seed,
            observer=progress,
        )
    write_summary(output / "summary.json", result.summary())
    console.print(table(result))
    console.print(f"summary: {output / 'summary.json'}")
    return result


def _inputs_beside(spec: Path) -> Path:
    """Return the input folder that goes with an inputspec, in coinstac-simulator's places."""
    places = [spec.parent / "test" / "input", spec.parent / "input"]
    for place in places:
        if place.is_dir():
            return place
    raise SimulatorError(
        "there is no test/input or input folder beside the inputspec; name one with --input", str(spec)
    )


def table(result: Result) -> Table:
    """Return the figures of a run, and what its final output says of each site."""
    view = Table("", "value", title="Simulated run")
    summary = result.summary()
    sites = summary.pop("sites")
    for name, value in _flat(summary):
        view.add_row(escape(name), escape(value))
    if isinstance(sites, Mapping):
        for site, facts in sites.items():
            view.add_section()
            for name, value in _flat(facts if isinstance(facts, Mapping) else {}):
                view.add_row(escape(f"{site}: {name}"), escape(value))
    return view


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name} ")
        else:
            rows.append((f"{prefix}{name}", f"{value:.4g}" if is_number(value) and value % 1 else str(value)))
    return rows
