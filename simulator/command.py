"""`coinstac-meshnet simulate`: run a consortium on this machine, in processes or in containers, without a network."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from computation import terminal
from computation.errors import MeshNetError, SimulatorError
from computation.printable import plain
from computation.terminal import shown
from simulator import embedded, inputspec, nvflare
from simulator.begun import refuse_others
from simulator.changes import Changes, add_options, asked
from simulator.containers.engine import DockerEngine
from simulator.containers.options import IMAGE, NETWORKS, DockerOptions
from simulator.course import Course, Order
from simulator.layout import Layout, left_out
from simulator.notes import notes
from simulator.observer import Observer
from simulator.progress import RunProgress, progress
from simulator.result import Result
from simulator.table import table

__all__ = ["add_arguments", "add_commands", "resume", "run", "simulate"]


def add_commands(commands: Any) -> None:
    """Register `simulate` among the sub-commands of an argument parser."""
    text = "run all sites and the centre on this machine, over COINSTAC's own protocol"
    parser = commands.add_parser("simulate", help=text, description=text)
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.add_argument("inputspec", type=Path, nargs="?", help="the sites' inputs; default: inputspec.json")
    parser.add_argument(
        "--input", type=Path, help="holds local0/simulatorRun and so on; default: test/input or input beside it"
    )
    parser.add_argument("--output", type=Path, default=Path("run"), help="folder for everything the run writes")
    parser.add_argument("--sites", type=_whole(1), help="number of sites; default: one for each entry of the inputspec")
    parser.add_argument(
        "--shuffle", type=_whole(0), metavar="SEED", help="shuffle the order in which sites reach the centre"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the interrupted run in --output, with all that it began with"
    )
    add_options(parser)
    parser.add_argument(
        "--engine", choices=("process", "docker", "nvflare"), help="what the nodes run in; default: process"
    )
    docker = parser.add_argument_group("with --engine docker")
    docker.add_argument("--image", help=f"default: {IMAGE}")
    docker.add_argument("--gpus", help="for each site: all, a number, or device=0,1; default: none")
    docker.add_argument("--memory", help="limit for each container, such as 4g; default: none")
    docker.add_argument("--cpus", type=float, help="limit for each container, such as 1.5; default: none")
    docker.add_argument("--network", choices=NETWORKS, help="default: none, that is no way out of the containers")


def _whole(low: int) -> Callable[[str], int]:
    """Return what reads a whole number, of at most nine digits, that is not below `low`."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= low:
            return int(text)
        raise argparse.ArgumentTypeError(f"wanted a whole number from {low} up, found {plain(text)[:40]!r}")

    return read


def run(options: argparse.Namespace) -> None:
    """Run a simulation, show it, and write `summary.json` into its output folder.

    Raises
    ------
    SimulatorError
        If it cannot be started or does not finish.
    """
    if options.resume:
        order = Course(Layout(options.output.resolve()).course).order()
        begun = vars(options) | {"docker": _docker(options)}
        refuse_others(order, begun)
        resume(options.output, order)
        return
    path = options.inputspec or Path("inputspec.json")
    spec = inputspec.read(path)
    inputs = options.input or inputspec.inputs_beside(path)
    docker = _docker(options)
    if options.engine == "nvflare":
        _on_nvflare(spec, inputs, options)
        return
    simulate(
        spec,
        inputs=inputs,
        output=options.output,
        sites=options.sites,
        shuffle_seed=options.shuffle,
        docker=docker,
        changes=asked(options),
    )


def _on_nvflare(spec: inputspec.Spec, inputs: Path, options: argparse.Namespace) -> None:
    """Run the consortium as NeuroFLAME would; there is nothing to go on with if it is interrupted."""
    if options.shuffle is not None:
        raise SimulatorError("--shuffle is not for --engine nvflare: there answers come in whatever order they come")
    console = terminal.console()
    console.print("provisioning and starting the nodes; their words are in the output folder's logs/")
    result = nvflare.run(spec, inputs=inputs, output=options.output, sites=options.sites, changes=asked(options))
    _show(result, options.output, console)


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
    changes: Changes | None = None,
    console: Console | None = None,
) -> Result:
    """Run a consortium with live progress, then show its summary.

    Parameters
    ----------
    spec, inputs, output, sites, shuffle_seed
        As in `embedded.run`.
    docker : DockerOptions, optional
        Run the nodes in containers that may use so much; in processes by default.
    changes : Changes, optional
        Additions to the sites' inputs.
    console : Console, optional
        Where to show it.

    Raises
    ------
    SimulatorError
        If it cannot be started or does not finish.
    """
    console = console or terminal.console()
    count = len(inputspec.fulfil(spec, sites))
    for site in left_out([f"local{index}" for index in range(count)], inputs):
        text = f"{site} takes no part: the run has {count} sites, though there is an input folder for it"
        console.print(f"[yellow]{shown(text)}", soft_wrap=True)

    def work(observer: Observer) -> Result:
        return embedded.run(
            spec,
            inputs=inputs,
            output=output,
            engine=_engine(docker),
            sites=sites,
            shuffle_seed=shuffle_seed,
            observer=observer,
            remembered={"docker": asdict(docker) if docker else None},
            changes=changes,
        )

    return _shown(work, output, console)


def resume(output: Path, order: Order, console: Console | None = None) -> Result:
    """Go on with an interrupted run, with live progress, then show its summary.

    Parameters
    ----------
    output : Path
        The run's folder.
    order : Order
        What it began with.
    console : Console, optional
        Where to show it.

    Raises
    ------
    SimulatorError
        If it cannot go on or does not finish.
    """
    raw = order.remembered.get("docker")
    engine = _engine(DockerOptions(**raw) if raw else None)
    return _shown(partial(_resume, output, engine), output, console or terminal.console())


def _resume(output: Path, engine: Any, observer: Observer) -> Result:
    return embedded.resume(output, engine=engine, observer=observer)


def _engine(docker: DockerOptions | None) -> Any:
    return partial(DockerEngine, docker) if docker else None


def _shown(work: Callable[[Observer], Result], output: Path, console: Console) -> Result:
    """Do the work with live progress; show what came of it, or how it can go on."""
    with progress(console) as observer:
        try:
            result = work(observer)
        except (MeshNetError, KeyboardInterrupt):
            _tell_how_to_go_on(observer, output, console)
            raise
    _show(result, output, console)
    return result


def _show(result: Result, output: Path, console: Console) -> None:
    console.print(table(result.summary(), "Simulated run"))
    layout = Layout(output)
    for note in notes(layout, result.sites):
        console.print(f"[yellow]{shown(note)}", soft_wrap=True, highlight=False)
    console.print(f"summary: {shown(layout.summary)}", soft_wrap=True, highlight=False)


def _tell_how_to_go_on(observer: RunProgress, output: Path, console: Console) -> None:
    if observer.kept:
        command = f"coinstac-meshnet simulate --resume --output {shlex.quote(str(output))}"
        text = f"kept up to iteration {observer.kept}; to go on: {command}"
        console.print(f"[yellow]{shown(text)}", soft_wrap=True, highlight=False)
