"""`coinstac-meshnet swarm ...`: a node without a coordinator, a thin feeder, and what settings are worth."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from computation import terminal
from computation.errors import PeersError

__all__ = ["add_commands"]

_ROLES = ("full", "trainer", "feeder")


def add_commands(commands: Any) -> None:
    """Register `swarm` among the sub-commands of an argument parser."""
    text = "train in a swarm with no coordinator (LEARNAE)"
    parser = commands.add_parser("swarm", help=text, description=text)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_key(verbs)
    _add_digits(verbs)
    _add_node(verbs)
    _add_feed(verbs)
    _add_compare(verbs)


def _add_key(verbs: Any) -> None:
    key = verbs.add_parser("key", help="make a channel's key; who has it can take part")
    key.add_argument("file", type=Path)
    key.set_defaults(run=_key)


def _add_digits(verbs: Any) -> None:
    digits = verbs.add_parser("digits", help="make one node's share of data that everybody may have, to try a swarm")
    digits.add_argument("file", type=Path)
    digits.add_argument("--node", type=int, default=0, help="which share, from 0")
    digits.add_argument("--of", type=int, default=3, help="how many shares")
    digits.add_argument("--samples", type=int, default=6000, help="of all shares together")
    digits.set_defaults(run=_digits)


def _add_node(verbs: Any) -> None:
    node = verbs.add_parser("node", help="be a node: bring slices, learn, average with others")
    node.add_argument("--role", choices=_ROLES, default="full")
    node.add_argument("--channel", default="meshnet", help="name of the swarm")
    node.add_argument("--key", type=Path, required=True, help="file with the channel's key")
    node.add_argument("--data", type=Path, required=True, help=".npz of inputs, targets, held_inputs, held_targets")
    node.add_argument("--output", type=Path, required=True, help="folder for journal, model and store")
    node.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0 takes a free one")
    node.add_argument("--join", action="append", default=[], metavar="ADDRESS", help="of a node that is there already")
    node.add_argument("--slices", action="store_true", help="the channel's owner allows slices of data to be shared")
    node.add_argument("--share-slices", action="store_true", help="you, the member, share yours; never data of people")
    node.add_argument("--people", action="store_true", help="the data are of people: they are never shared")
    node.add_argument("--feeds", type=Path, metavar="FILE", help="authors' keys of feeds to keep, one in a line")
    node.add_argument("--feeders", metavar="HOST:PORT", help="where thin feeders bring them; default: nowhere")
    node.add_argument("--model", default="perceptron", help="linear, perceptron or convolutional")
    node.add_argument("--overuse", type=int, default=0, metavar="T", help="nodes that may use a slice; 0: all")
    for name, value, text in _NUMBERS:
        node.add_argument(f"--{name}", type=type(value), default=value, help=f"{text}; default: {value:g}")
    node.set_defaults(run=_node)


_NUMBERS = (
    ("turns", 100, "turns; in each a training cycle where there is something to learn from"),
    ("samples", 500, "samples in a slice"),
    ("batch", 64, "samples in a batch"),
    ("rate", 0.01, "learning rate"),
    ("pace", 0.2, "seconds that a turn takes at least"),
    ("every", 1.0, "seconds between two models that are offered, at least"),
    ("patience", 60.0, "seconds after which what cannot be had is given up"),
    ("stay", 0.0, "seconds to serve others after the last turn"),
    ("seed", 0, "of the model; the same at all nodes"),
)


def _add_feed(verbs: Any) -> None:
    feed = verbs.add_parser("feed", help="append messages to a thin feeder's signed log")
    feed.add_argument("state", type=Path, help="where the feed stands; made with --new")
    feed.add_argument("messages", type=Path, nargs="*", help="files, one message each")
    feed.add_argument("--new", choices=("public", "restricted", "private"), help="begin a feed of this mode")
    feed.add_argument("--seed", type=Path, help="file of 32 bytes or more, of which the whole feed follows")
    feed.add_argument("--side", type=Path, help="file with the side key of restricted mode")
    feed.add_argument("--log", type=Path, help="folder of the log; default: beside the state")
    feed.add_argument("--to", metavar="HOST:PORT", help="a full node that takes the feed: its --feeders")
    feed.set_defaults(run=_feed)
    read = verbs.add_parser("read", help="write what a feed's messages say into files")
    read.add_argument("log", type=Path, help="folder of the log; at a full node `feeds` in its output folder")
    read.add_argument("ticket", help="reading key, as `swarm feed` prints it")
    read.add_argument("output", type=Path, help="folder for the files, one for each message")
    read.add_argument("--side", type=Path, help="file with the side key of restricted mode")
    read.set_defaults(run=_read)


def _add_compare(verbs: Any) -> None:
    compare = verbs.add_parser("compare", help="slice size by overuse threshold: the paper's figures")
    compare.add_argument("--nodes", type=int, default=10)
    compare.add_argument("--sizes", default="50,100,200", help="samples in a slice, by commas")
    compare.add_argument("--thresholds", default="2,6,0", help="of overuse, by commas; 0: none")
    compare.add_argument("--samples", type=int, default=4000, help="of all nodes together")
    compare.add_argument("--turns", type=int, default=30, help="in virtual time")
    text = "real processes of this machine instead of virtual time, for so many seconds each pair"
    compare.add_argument("--processes", type=float, metavar="SECONDS", help=text)
    compare.add_argument("--output", type=Path, help="CSV")
    compare.set_defaults(run=_compare)


def _key(options: argparse.Namespace) -> None:
    try:
        handle = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise PeersError("the key cannot be written; wanted a file that is not there yet", str(error)) from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
    terminal.console().print("the key is written; give it to the nodes of the channel and to nobody else")


def _digits(options: argparse.Namespace) -> None:
    import numpy as np

    from peers.swarm.data import digits

    if not 0 <= options.node < options.of or options.samples < options.of:
        raise PeersError(f"share {options.node} of {options.of} in {options.samples}; wanted one of them, not empty")
    arrays: dict[str, Any] = digits(options.samples, options.node, options.of)
    np.savez(options.file, **arrays)


def _node(options: argparse.Namespace) -> None:
    needs("libp2p", "cryptography")
    from peers.protocols.swarm import Swarm
    from peers.swarm.node import Order, run

    host, port = _place(options.listen)
    rule = Swarm(
        role=options.role, share=options.slices, overuse=options.overuse, pace=options.pace, every=options.every
    )
    numbers = (name for name, *_ in _NUMBERS if name not in ("pace", "every"))
    same = ("channel", "key", "data", "output", "share_slices", "people", "model", "feeds", *numbers)
    given = {name: getattr(options, name) for name in same}
    given["feeders"] = _place(options.feeders) if options.feeders else None
    accuracy = run(Order(protocol=rule, host=host, port=port, join=tuple(options.join), **given))
    terminal.console().print(f"accuracy {accuracy:.3f}; model, journal and measures are in the output folder")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise PeersError(f"{text[:80]!r} is no place to listen at; wanted HOST:PORT, the port at most 65535")
    return host, int(port)


def _feed(options: argparse.Namespace) -> None:
    needs("cryptography")
    from peers.swarm.feeding import feed

    to = _place(options.to) if options.to else None
    feed(options.state, options.messages, options.new, options.seed, options.side, options.log, to)


def _read(options: argparse.Namespace) -> None:
    needs("cryptography")
    from peers.swarm.feeding import read

    count = read(options.log, options.ticket, options.side, options.output)
    terminal.console().print(f"{count} messages are in the folder")


def _compare(options: argparse.Namespace) -> None:
    from peers.swarm.comparing import compare, table

    sizes, thresholds = _wholes(options.sizes), _wholes(options.thresholds)
    if options.processes is None:
        rows = compare(options.nodes, sizes, thresholds, options.samples, options.turns, sys.stderr)
    else:
        needs("libp2p", "cryptography")
        from peers.swarm import together

        rows = together.compare(options.nodes, sizes, thresholds, options.samples, options.processes, sys.stderr)
    table(rows, options.output, "virtual s" if options.processes is None else "s")


def _wholes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PeersError(f"{text[:80]!r} is no list of whole numbers; wanted such as 50,100,200") from None


def needs(*packages: str) -> None:
    """Refuse where a package of the extra is missing; raises `PeersError`."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise PeersError(
            f"{' and '.join(missing)} is not installed; wanted for a swarm: pip install coinstac-meshnet[swarm]"
        )
