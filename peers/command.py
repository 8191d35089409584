"""`coinstac-meshnet peers ...`: the same trainer without a centre, in virtual time or in real processes."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation import terminal
from computation.errors import PeersError
from computation.printable import plain
from computation.terminal import shown

if TYPE_CHECKING:
    from peers.comparing import Row
    from peers.engines.network import Network
    from peers.options import Choice
    from peers.plan import Order

__all__ = ["add_commands"]

#: Seconds of virtual time after which a peer that says nothing is taken for gone: they cost nothing.
_VIRTUAL_PATIENCE, _PATIENCE = 600.0, 60.0
#: Compared where nothing is named: all that there is, and gossip of all kinds.
_COMPARED = [
    "gradient-mean",
    "fedavg",
    "ring-broadcast",
    "gossip",
    "gossip:probability=0.1",
    "gossip:mixing=doubly",
    "gossip:mixing=doubly,graph=exponential",
    "push-sum",
]


def add_commands(commands: Any) -> None:
    """Register `peers` among the sub-commands of an argument parser."""
    text = "train without a centre: averaging around a ring, gossip, push-sum"
    parser = commands.add_parser("peers", help=text, description=text)
    parser.add_argument("--list", action="store_true", help="print which protocol runs on which engine, and end")
    parser.set_defaults(run=_list)
    verbs = parser.add_subparsers(metavar="VERB")
    _add_run(verbs)
    _add_simulate(verbs)
    _add_compare(verbs)
    worker = verbs.add_parser("work")
    worker.add_argument("output", type=Path)
    worker.add_argument("--resume", action="store_true")
    worker.set_defaults(run=_work)


def _add_run(verbs: Any) -> None:
    text = "train in a real process for each peer, here or under torchrun or Slurm"
    parser = verbs.add_parser("run", help=text, description=text)
    _add_order(parser)
    parser.add_argument("--patience", type=float, help=f"seconds to wait for a silent peer; default: {_PATIENCE:g}")
    parser.add_argument(
        "--collective", choices=("ring", "backend"), help="our counted ring (default), or the backend's"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where means are made: gloo (default), or NCCL")
    parser.add_argument("--master", metavar="HOST:PORT", help="where the peers meet; default: what torchrun says")
    parser.add_argument("--interface", help="network interface to the other peers, such as eth0")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --output")
    parser.set_defaults(run=_run)


def _add_simulate(verbs: Any) -> None:
    text = "train all peers in this process, in virtual time"
    parser = verbs.add_parser("simulate", help=text, description=text)
    _add_order(parser)
    add_network(parser)
    parser.set_defaults(run=_simulate)


def _add_compare(verbs: Any) -> None:
    text = "train with several protocols on the same sites, seeds and samples, in virtual time"
    parser = verbs.add_parser("compare", help=text, description=text)
    _add_places(parser)
    parser.add_argument(
        "--protocols",
        nargs="*",
        default=_COMPARED,
        metavar="NAME[:OPTION=VALUE,...]",
        help=f"none: only what is --finished; default: {' '.join(_COMPARED)}",
    )
    parser.add_argument(
        "--finished",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="runs that are over, to stand beside: of a swarm's node, a mesh's task, or a run's site, peer or centre",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the runs; default: 0")
    add_network(parser)
    parser.set_defaults(run=_compare)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputspec", type=Path, nargs="?", help="the sites' inputs; default: inputspec.json")
    parser.add_argument(
        "--input", type=Path, help="holds local0/simulatorRun and so on; default: test/input or input beside it"
    )
    parser.add_argument("--output", type=Path, default=Path("run"), help="folder for everything the run writes")
    parser.add_argument("--peers", type=int, metavar="N", help="how many; default: one for each entry of the inputspec")


def _add_order(parser: argparse.ArgumentParser) -> None:
    _add_places(parser)
    parser.add_argument("--protocol", default="gradient-mean", help="see `peers --list`; default: gradient-mean")
    parser.add_argument("--mixing", help="gossip, push-sum: row, column or doubly; or KIND:FILE with a matrix in JSON")
    parser.add_argument("--graph", help="gossip, push-sum: ring, complete, exponential or random")
    parser.add_argument("--tau", type=int, help="ring-broadcast: rounds between two broadcasts")
    parser.add_argument("--probability", type=float, help="gossip: of a push after a round")
    parser.add_argument(
        "--clients", type=float, help="gradient-mean, fedavg and its kin: share of the peers that work in a round"
    )
    parser.add_argument("--staleness", type=int, help="leader: rounds that a peer may be ahead of the slowest one")
    parser.add_argument("--noise", type=float, help="gossip, push-sum: standard deviation of the noise on each link")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Declare what `network` reads."""
    group = parser.add_argument_group("the network of virtual time")
    group.add_argument("--latency", type=float, default=0.0, metavar="MS", help="milliseconds from peer to peer")
    group.add_argument("--bandwidth", type=float, metavar="MBITS", help="megabits in a second; default: no limit")
    group.add_argument("--jitter", type=float, default=0.0, metavar="MS", help="up to so many milliseconds more")
    group.add_argument("--loss", type=float, default=0.0, help="share of messages that are lost")
    group.add_argument("--duplication", type=float, default=0.0, help="share of messages that arrive twice")
    group.add_argument(
        "--straggler", action="append", default=[], metavar="NAME=FACTOR", help="a peer that computes slower"
    )
    group.add_argument(
        "--outage",
        action="append",
        default=[],
        metavar="NAME=FROM[-TO]",
        help="a peer that goes, at a second, and comes",
    )
    group.add_argument("--batch-seconds", type=float, metavar="S", help="seconds of a batch; default: measured")
    group.add_argument("--collective", choices=("star", "ring"), default="star", help="how a mean is come by")
    group.add_argument("--seed", type=int, default=0, help="of the network's chance")
    group.add_argument("--patience", type=float, default=_VIRTUAL_PATIENCE, help="virtual seconds for a silent peer")


def network(options: argparse.Namespace) -> Network:
    """Return the network that the options describe.

    Raises
    ------
    PeersError
        If it cannot be.
    """
    from peers.engines.network import Network, Outage

    outages = []
    for text in options.outage:
        name, span = _pair(text, "--outage", "NAME=FROM[-TO]")
        begin, _, end = span.partition("-")
        outages.append(Outage(name, _number(begin, text), _number(end or "inf", text)))
    pairs = [_pair(text, "--straggler", "NAME=FACTOR") for text in options.straggler]
    return Network(
        latency=options.latency / 1e3,
        bandwidth=float("inf") if options.bandwidth is None else options.bandwidth * 1e6 / 8,
        jitter=options.jitter / 1e3,
        loss=options.loss,
        duplication=options.duplication,
        seconds=options.batch_seconds,
        stragglers={name: _number(factor, name) for name, factor in pairs},
        outages=tuple(outages),
        collective=options.collective,
        seed=options.seed,
    )


def _pair(text: str, option: str, wanted: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise PeersError(f"{option} is {plain(text)[:60]!r}; wanted {wanted}, such as local1=5")
    return name, value


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PeersError(f"{plain(text)[:20]!r} of {plain(whole)[:60]!r} is no number") from None


def _list(options: argparse.Namespace) -> None:
    """Print which protocol runs on which engine, from what they need and offer."""
    from rich.table import Table

    from peers.options import ENGINES, PROTOCOLS, Choice

    table = Table("protocol", "options", *ENGINES, "needs", title="Protocols without a centre")
    for name, entry in PROTOCOLS.items():
        needs = Choice(name).rule().needs
        runs = ["yes" if needs <= offers else "no" for offers in ENGINES.values()]
        table.add_row(name, " ".join(f"--{option}" for option in entry.options), *runs, ", ".join(sorted(needs)))
    terminal.console().print(table)
    for name, entry in PROTOCOLS.items():
        terminal.console().print(f"{name}: {entry.text}", highlight=False)
    text = "zeromq carries `coinstac-meshnet mesh`; swarm runs on libp2p, too: `coinstac-meshnet swarm`"
    terminal.console().print(text, highlight=False)


def choice(options: argparse.Namespace) -> Choice:
    """Return the protocol that the options describe."""
    from peers.options import Choice

    names = ("mixing", "graph", "tau", "probability", "clients", "noise", "staleness")
    return Choice(options.protocol, **{name: getattr(options, name) for name in names})


def ordered(options: argparse.Namespace, chosen: Choice, patience: float) -> Order:
    """Return what the options ask for."""
    from peers import plan
    from simulator import inputspec

    path = options.inputspec or Path("inputspec.json")
    return plan.order(
        inputspec.read(path),
        inputs=options.input or inputspec.inputs_beside(path),
        output=options.output,
        peers=options.peers,
        choice=chosen,
        patience=patience,
    )


def _simulate(options: argparse.Namespace) -> None:
    from peers import simulating

    order, figures = ordered(options, choice(options), options.patience), network(options)
    console = terminal.console()
    with console.status("starting the peers"):
        summary = simulating.simulate(order, figures, _teller(console))
    _show(summary, order.layout.summary, "Run without a centre, in virtual time")


def _compare(options: argparse.Namespace) -> None:
    from peers import comparing
    from peers.finished import finished
    from peers.options import Choice

    choices, figures = [Choice.read(text) for text in options.protocols], network(options)
    if os.path.realpath(options.output) in map(os.path.realpath, options.finished):
        raise PeersError("--output is the folder of a finished run, whose page would be lost; name another one")
    beside = finished(options.finished)
    console = terminal.console()

    def told(row: Row) -> None:
        console.print(shown(_came_to(row)), soft_wrap=True, highlight=False)

    for row in beside[0]:
        told(row)
    if choices:
        order = ordered(options, choices[0], options.patience)
        comparing.compare(order, choices, options.seeds, figures, told, beside)
    elif options.finished:
        comparing.write(options.output, *beside)
    else:
        raise PeersError("there is nothing to compare; wanted --protocols, --finished, or both")
    console.print(f"page: {shown(options.output.resolve() / 'index.html')}", soft_wrap=True, highlight=False)


def _came_to(row: Row) -> str:
    if row.seconds is None:
        return f"{row.protocol}: finished; its files do not say: {row.lacks or 'nothing'}"
    dice = "no validation" if row.valid_dice is None else f"Dice {row.valid_dice:.3f}"
    return f"{row.protocol}, seed {row.seed}: {dice}, {row.bytes} bytes, {row.seconds:.1f} virtual seconds"


def _teller(console: Any) -> Callable[[Any], None]:
    """Return what prints a line about a round now and then."""
    from peers.lines import Lines

    return Lines(console)


def _run(options: argparse.Namespace) -> None:
    from peers import running

    patience = _PATIENCE if options.patience is None else options.patience
    if options.resume and not running.started_elsewhere():
        _refuse_others(options)
        with _going_on(options.output):
            summary = running.go_on(options.output, _told)
        _show(summary, options.output / "summary.json", "Run without a centre")
        return
    order = ordered(options, choice(options), patience)
    given = {name: getattr(options, name) for name in ("collective", "device", "master", "interface")}
    meeting = running.Meeting(**{name: value for name, value in given.items() if value is not None})
    if running.started_elsewhere():
        running.take_part(order, meeting, resume=options.resume)
        return
    if options.master or options.interface:
        raise PeersError(
            "--master and --interface are for peers on several machines; start this command under torchrun or srun"
        )
    with _going_on(order.output):
        summary = running.launch(order, meeting, _told)
    _show(summary, order.layout.summary, "Run without a centre")


def _refuse_others(options: argparse.Namespace) -> None:
    """Refuse options that an interrupted run has already."""
    kept = (
        "inputspec",
        "input",
        "peers",
        "mixing",
        "graph",
        "tau",
        "probability",
        "clients",
        "noise",
        "staleness",
        "patience",
    )
    for name in (*kept, "collective", "device", "master", "interface"):
        if getattr(options, name) is not None:
            raise PeersError(f"an interrupted run goes on as it began; leave --{name} out, or start it anew")


@contextmanager
def _going_on(output: Path) -> Iterator[None]:
    """Say how a run can go on that did not come to its end."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        command = f"coinstac-meshnet peers run --resume --output {shlex.quote(str(output))}"
        terminal.complain(f"the peers have ended; to go on from their checkpoints: {shown(command)}")
        raise


def _told(text: str) -> None:
    terminal.console().print(f"[yellow]{shown(text)}", soft_wrap=True, highlight=False)


def _work(options: argparse.Namespace) -> None:
    from peers import running

    running.work(options.output, resume=options.resume)


def _show(summary: dict[str, Any], path: Path, title: str) -> None:
    from simulator.table import table

    console = terminal.console()
    shown_of = {**summary, "traffic": {k: v for k, v in summary["traffic"].items() if k != "links"}}
    console.print(table(shown_of, title))
    console.print(f"summary: {shown(path)}", soft_wrap=True, highlight=False)
