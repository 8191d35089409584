"""The beginning: all tell each other what they bring, and each makes the same plan of it, as a centre would."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from computation.errors import PeersError, SettingsError
from computation.federation import claims, initial, shares
from computation.federation.planning import Agreed
from computation.federation.site import SiteRun
from computation.settings import Settings
from computation.wire.messages import MOST_ROUNDS, JoinOffer
from computation.wire.reader import Reader
from peers.mail import gather, said
from peers.peer import Peer
from peers.protocols.base import RULES, SCREENING
from peers.requests import Message, Request, Send, Steps

__all__ = [
    "LONGEST_RUN",
    "Hello",
    "check_names",
    "check_settings",
    "described",
    "expect_all",
    "join",
    "rejoin",
    "start_from_given",
    "weights",
    "without_effect",
]

#: Characters of a run's name.
LONGEST_RUN = 64

_JOIN, _INITIAL = "join", "initial"
#: Checkpoints that a peer may say it has; more than any setting keeps.
_MOST_KEPT = 100
#: What a centre does with these settings, and nobody does where there is none.
_CENTRES = ("quorum", "deadline")
#: A setting of screening that asks for nothing.
_OFF = (0, "count")


@dataclass(frozen=True)
class Hello:
    """A peer's first message.

    Attributes
    ----------
    offer : JoinOffer
        What it was told and what it brings, as a site's.
    protocol : str
        That it is to follow, with its options.
    rounds : tuple of int
        After which it has a checkpoint to go on from; 0 where it begins.
    run : str
        Name of the run that the checkpoints are of; empty where it has none.
    """

    offer: JoinOffer
    protocol: str
    rounds: tuple[int, ...] = (0,)
    run: str = ""

    @classmethod
    def parse(cls, raw: Any) -> Hello:
        """Read a first message; raises `MessageError`."""
        reader = Reader("first message", raw)
        offer, protocol, rounds = reader.mapping("offer"), reader.text("protocol"), reader.pop("rounds")
        fits = isinstance(rounds, list) and 1 <= len(rounds) <= _MOST_KEPT
        fits = fits and all(type(round) is int and 0 <= round <= MOST_ROUNDS for round in rounds)
        reader.take("rounds", f"a list of 1 to {_MOST_KEPT} rounds", fits, None)
        run = reader.text("run", LONGEST_RUN)
        reader.end()
        return cls(JoinOffer.parse(offer), protocol, tuple(rounds), run)

    def text(self) -> str:
        """Return the message as JSON."""
        told = {"protocol": self.protocol, "rounds": list(self.rounds), "run": self.run}
        return json.dumps({"offer": self.offer.as_json(), **told})


def check_names(own: str, names: tuple[str, ...]) -> None:
    """Refuse names of which no run can be made; raises `PeersError`, or `MessageError` for what is no name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PeersError(f"two peers are called {twice[0]!r}; give each a name of its own")
    for name in names:
        claims.check_name(name)
    if own not in names:
        raise PeersError(f"peer {own!r} is not among the peers of this run, {', '.join(names)}; add it")
    if len(names) < 2:
        raise PeersError(f"peer {own!r} is alone; a run without a centre wants at least two peers")


def described(protocol: Any) -> str:
    """Return a protocol's name and its options, in one line that is the same at all who follow it."""
    options = fields(protocol) if is_dataclass(protocol) else ()
    plain = {item.name: getattr(protocol, item.name) for item in options}
    told = [f"{name}={value}" for name, value in plain.items() if isinstance(value, str | int | float)]
    told += [described(value) for value in plain.values() if hasattr(value, "needs")]  # one that is wrapped
    return " ".join([protocol.name, *told])[:200]


def join(peer: Peer, hello: Hello) -> Generator[Request, Any, dict[str, Hello]]:
    """Tell all others what this peer brings, and return what each does.

    Raises
    ------
    PeersError
        Naming those that said nothing.
    SettingsError
        Naming two that are to follow different protocols.
    MeshNetError
        Naming a peer whose message is malformed.
    """
    told = yield from gather(peer, _JOIN, _greeting(hello))
    expect_all(peer, told, "at the start")
    hellos = {name: said(name, told[name], Hello.parse) for name in peer.names}
    first = peer.names[0]
    for name, other in hellos.items():
        if other.protocol != hellos[first].protocol:
            raise SettingsError(
                f"peer {first} is to follow the protocol {hellos[first].protocol} and peer {name} {other.protocol}; "
                "every peer must run with the same options"
            )
    return hellos


def _greeting(hello: Hello) -> Message:
    return Message(_JOIN, text=hello.text())


def rejoin(site: SiteRun, peer: Peer, hello: Hello) -> Steps:
    """Tell the others what `join` and `start_from_given` would, and wait for nobody: most are in the midst of it."""
    for other in peer.others:
        yield Send(other, _greeting(hello), reliable=True)
        if site.settings.initial_model:
            yield Send(other, Message(_INITIAL, values=site.brought), reliable=True)


def expect_all(peer: Peer, told: Mapping[str, Message], when: str, patience: float | None = None) -> None:
    """Refuse to go on without somebody; raises `PeersError`."""
    silent = [name for name in peer.names if name not in told]
    if silent:
        seconds = peer.patience if patience is None else patience
        raise PeersError(
            f"{when} peer {' and '.join(silent)} said nothing to {peer.name} for {seconds:g} seconds, or was gone; see "
            f"that all {len(peer.names)} peers run and reach each other, or wait longer"
        )


def weights(settings: Settings, offers: Mapping[str, JoinOffer], done: Agreed) -> tuple[dict[str, float], list[str]]:
    """Return what each peer weighs, 0 where it only evaluates, and whose share is held at the owner's bound."""
    own = {
        name: shares.weight(settings, offers[name], batches * settings.batch_size)
        for name, batches in done.batches.items()
    }
    held = shares.capped(own, settings.most_share)
    return {name: held.get(name, 0.0) for name in sorted(offers)}, shares.lowered(own, held)


def start_from_given(site: SiteRun, peer: Peer) -> Generator[Request, Any, None]:
    """Take over the trained model that the owner names, where one is named; whoever has it tells all others."""
    if not site.settings.initial_model:
        return
    told = yield from gather(peer, _INITIAL, Message(_INITIAL, values=site.brought))
    expect_all(peer, told, "at the start")
    models = ((name, told[name].values) for name in peer.names)
    brought = ((name, values) for name, values in models if values is not None)
    site.trainer.load_vector(initial.chosen(brought, site.trainer, site.settings, site.tracker))


def check_settings(settings: Settings, heeds: Collection[str]) -> None:
    """Refuse what no peer does, or not by a protocol that heeds these settings only; raises `PeersError`."""
    if settings.dp:
        raise PeersError(
            "setting 'dp' needs a centre, and there is none here; leave it out, or use `coinstac-meshnet train`"
        )
    if settings.one_voice and not {*heeds} >= RULES:
        name = "clip_norms" if settings.rule == "mean" else "rule"
        raise PeersError(
            f"setting {name!r} wants all contributions in one place, of which there is none here; leave it out, or use "
            "--protocol leader or `coinstac-meshnet train`"
        )
    if settings.drifted_above:
        raise PeersError(
            "setting 'drifted_above' asks that all contributions of a round be judged side by side, as only a centre "
            "can; leave it out, or use `coinstac-meshnet train`"
        )
    for name in sorted(SCREENING - {*heeds}):
        if getattr(settings, name) not in (getattr(Settings(), name), *_OFF):
            raise PeersError(
                f"setting {name!r} asks that single contributions be judged, and in this protocol nobody can judge "
                "them so; leave it out, or use --protocol leader or `coinstac-meshnet train`"
            )


def without_effect(settings: Settings, common: bool) -> list[str]:
    """Return the settings that the owner changed and that mean nothing without a centre."""
    names = _CENTRES if common else (*_CENTRES, "patience")
    return [name for name in names if getattr(settings, name) != getattr(Settings(), name)]
