"""One node of a swarm as a process: its data, its model, its place on the network, and what it writes down."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from computation.checks import is_text
from computation.errors import PeersError
from computation.files import replacing
from computation.terminal import console
from computation.tracking import lines, mean
from computation.tracking.journal import Journal
from computation.wire import payload
from computation.wire.payload import MODEL, Payload
from peers.engines import libp2p
from peers.engines.libp2p import Wire
from peers.peer import Peer
from peers.protocols.swarm import Swarm
from peers.requests import Report, require
from peers.slices import SliceLearner
from peers.swarm import carrying, data, feeding, models, page
from peers.swarm.carrying import Carrier
from peers.swarm.channel import Channel
from peers.swarm.feed import Log
from peers.swarm.intake import Intake
from peers.swarm.store import Store
from peers.swarm.words import TOPICS

__all__ = ["Order", "run"]

_LEAST_KEY = 32
_MODEL = f"{payload.PREFIX}model"
#: Seconds for which training may keep the network's thread waiting each time; Python's 0.005 make it a hundred times
#: slower than it is alone.
_SWITCH = 0.0005
#: Messages that one author may bring in a minute.
_MOST_MESSAGES = 1000


@dataclass(frozen=True)
class Order:
    """What a node is told.

    Attributes
    ----------
    channel : str
        Name of the swarm.
    key : Path
        File with its key, in hexadecimal.
    data : Path
        See `peers.swarm.data.read`.
    output : Path
        Folder for journal, model and store.
    protocol : Swarm
        Its role and rules.
    host, port : str and int
        Where to listen.
    join : tuple of str
        Addresses of nodes that are there already.
    share_slices : bool
        Whether the member lets its slices go; the protocol's `share` is the owner's word.
    feeds : Path or None
        File with the authors whose feeds it keeps.
    feeders : (str, int) or None
        Where thin feeders bring them.
    people : bool
        Whether the data are of people, who are never shared.
    model : str
        One of `peers.swarm.models.MODELS`.
    turns : int
        In each, a training cycle where there is something to learn from.
    samples, batch : int
        In a slice, and in a batch.
    rate : float
        Of learning.
    patience : float
        Seconds after which what cannot be had is given up, and named.
    stay : float
        Seconds to serve others after the last turn.
    room : int
        Bytes of the store.
    seed : int
        Of the model.
    """

    channel: str
    key: Path
    data: Path
    output: Path
    protocol: Swarm
    host: str = "127.0.0.1"
    port: int = 0
    join: tuple[str, ...] = ()
    share_slices: bool = False
    people: bool = False
    feeds: Path | None = None
    feeders: tuple[str, int] | None = None
    model: str = "perceptron"
    turns: int = 100
    samples: int = 500
    batch: int = 64
    rate: float = 0.01
    patience: float = 60.0
    stay: float = 0.0
    room: int = 1 << 30
    seed: int = 0


def run(order: Order) -> float:
    """Be a node until its turns are over; return the accuracy of its model.

    Raises
    ------
    PeersError
        If data, key, address or settings are unsound.
    """
    require(Swarm.name, Swarm.needs, "libp2p", libp2p.OFFERS)
    learner = _learner(order)
    try:
        order.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PeersError("the output folder cannot be made; name another one", repr(error)) from None
    journal = Journal(order.output / "journal.jsonl")
    sys.setswitchinterval(_SWITCH)
    store = Store(order.output / "store", order.room)
    authors = feeding.authors(order.feeds)
    with ExitStack() as open_:
        wire = open_.enter_context(_wire(order, store, bool(authors)))
        lines.replace(order.output / "address.txt", wire.address + "\n")
        console().print(f"listening at {wire.address}")
        journal.write("listening", address=wire.address, role=order.protocol.role, slices=len(learner.own))
        peer = _peer(order, wire.name, learner, journal)
        if authors:
            _carry(order, authors, wire, peer.refused, open_)
        journal.write("ended", asked=_at_work(order, peer, wire, journal))
        _finish(order, peer, wire, journal)
        time.sleep(order.stay)
    return learner.accuracy()


def _wire(order: Order, store: Store, feeds: bool) -> Wire:
    topics = (*TOPICS.values(), *([carrying.TOPIC] if feeds else ()))
    return Wire(_channel(order), store, topics, _identity(order.output), order.host, order.port, order.join)


def _carry(
    order: Order, authors: Sequence[bytes], wire: Wire, refused: Callable[[str, str], None], open_: ExitStack
) -> None:
    """Keep feeds beside all else, until the node ends."""
    log = Log(authors, order.output / "feeds", most=_MOST_MESSAGES)
    carrier = Carrier(log, wire.perform, refused)
    wire.aside[carrying.TOPIC] = carrier.hear
    open_.enter_context(carrier)
    if order.feeders:
        intake = open_.enter_context(Intake(carrier, *order.feeders))
        console().print("feeders are taken at {}:{}".format(*intake.server_address))


def _at_work(order: Order, peer: Peer, wire: Wire, journal: Journal) -> bool:
    """Do all turns; tell whether somebody asked for an end before."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        libp2p.run(order.protocol(peer), wire, _told(order, wire, journal))
    except KeyboardInterrupt:
        return True
    return False


def _channel(order: Order) -> Channel:
    try:
        key = bytes.fromhex(order.key.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        fault = "the channel's key cannot be read; `coinstac-meshnet swarm key FILE` makes one"
        raise PeersError(fault, f"{order.key}: {error!r}") from None
    return Channel(order.channel, key)


def _learner(order: Order) -> SliceLearner:
    found = data.read(order.data, order.samples)
    model = models.built(order.model, found.kind, order.seed)
    return SliceLearner(
        model,
        torch.optim.SGD(model.parameters(), order.rate, momentum=0.9),
        torch.nn.functional.cross_entropy,
        found.kind,
        found.slices,
        found.held_out,
        size=order.batch,
        shares=order.share_slices,
        people=order.people,
        seed=order.seed,
    )


def _identity(output: Path) -> bytes:
    """Return the node's secret, a new one where it has none: it is the same node after a restart."""
    path = output / "identity"
    if not path.exists():
        _keep(path, secrets.token_hex(_LEAST_KEY))
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _peer(order: Order, name: str, learner: SliceLearner, journal: Journal) -> Peer:
    def refused(sender: str, fault: str) -> None:
        journal.write("refused", sender=sender if is_text(sender, 100) else "", fault=fault)

    peer = Peer(name, {name: 1.0}, learner, order.turns, seed=order.seed, patience=order.patience, refused=refused)
    learner.name = name
    memory = order.output / "memory.json"
    if memory.exists():
        peer.memory.update(json.loads(memory.read_text(encoding="utf-8")))
        _go_on(order, peer)
    return peer


def _go_on(order: Order, peer: Peer) -> None:
    """Take up the model that an earlier run has left; its maturity is of that model and no other."""
    learner = peer.learner
    if (maturity := _maturity(peer)) and (path := order.output / _MODEL).exists():
        found = payload.read(path, kind=MODEL, round=maturity, manifest=learner.manifest, dtype=learner.dtype)
        learner.load_vector(found)


def _maturity(peer: Peer) -> int:
    return int(peer.memory.get("known", {}).get("maturity", 0))


def _told(order: Order, wire: Wire, journal: Journal) -> Callable[[Report], None]:
    """Return what writes turns down: each that averaged, and of the others one in a while."""
    latest, numbers = 0.0, dict[str, float]()

    def told(report: Report) -> None:
        nonlocal latest
        numbers.update({name: value for name, value in _measured(report).items() if value is not None})
        if not report.closed or (len(report.counted) < 2 and time.monotonic() - latest < order.protocol.every):
            return
        latest, counts = time.monotonic(), wire.counts
        more = {"received": counts.received, "again": counts.again, "sent": counts.sent}
        journal.write("turn", round=report.round, own=wire.name, counted=report.counted, **numbers, **more)

    return told


def _measured(report: Report) -> dict[str, float | None]:
    return {"loss": report.loss, "samples": report.samples or None, **report.numbers}


def _finish(order: Order, peer: Peer, wire: Wire, journal: Journal) -> None:
    """Write down the model, what a restart needs, and the measures."""
    learner, maturity = peer.learner, _maturity(peer)
    _keep(order.output / "memory.json", json.dumps(peer.memory))
    whole = Payload(MODEL, maturity, learner.manifest, learner.vector())
    payload.write(order.output / _MODEL, whole)
    found: dict[str, Any] = {
        "accuracy": learner.accuracy(),  # type: ignore[attr-defined]
        "maturity": maturity,
        "averaged": int(peer.memory.get("known", {}).get("mixed", 0)),
        "received": wire.counts.received,
        "again": wire.counts.again,
        "sent": wire.counts.sent,
        "resilience": mean(wire.counts.holders),
        "digest": learner.digest(),
    }
    lines.replace(order.output / "result.json", json.dumps(found, indent=2) + "\n")
    journal.write("done", **found)
    page.write(order.output, found)


def _keep(path: Path, text: str) -> None:
    """Write a file that is for this node alone."""
    with replacing(path) as partial:
        partial.touch(0o600)
        partial.write_text(text, encoding="utf-8")
