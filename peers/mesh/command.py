"""`coinstac-meshnet mesh ...`; needs the extra `mesh`, and imports nothing of it before it is asked to do something."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation.errors import PeersError
from computation.terminal import say

if TYPE_CHECKING:
    from peers.mesh.node import Contact
    from peers.mesh.place import Place

__all__ = ["add_commands"]

_NEEDED = ("zmq", "google.protobuf", "pyftpdlib", "OpenSSL")
_PORTS = {"bootstrap": 5555, "provider": 5560}


def add_commands(commands: Any) -> None:
    """Declare `mesh` and its three roles."""
    parser = commands.add_parser("mesh", help="rent providers for a training, or be one (extra: mesh)")
    roles = parser.add_subparsers(required=True, metavar="ROLE")
    bootstrap = roles.add_parser("bootstrap", help="know who is there, and tell others")
    bootstrap.set_defaults(run=_bootstrap)
    provider = roles.add_parser("provider", help="learn for others")
    provider.set_defaults(run=_provider)
    requester = roles.add_parser("requester", help="have something learnt; --detach, and come back with --resume")
    requester.set_defaults(run=_requester)
    for name, role in (("bootstrap", bootstrap), ("provider", provider), ("requester", requester)):
        _shared(role, name)
    bootstrap.add_argument("--lease", type=float, default=60.0, help="seconds that an entry lives without a sign")
    provider.add_argument("--device", default="", help="cpu, cuda or mps; default: the best that is there")
    provider.add_argument("--memory", type=float, metavar="GB", help="that it gives; default: 8")
    provider.add_argument("--cores", type=int, help="that it gives; default: 16")
    provider.add_argument("--take-data", action="store_true", help="take raw data, if the requester shares them")
    provider.add_argument("--install", action="append", default=[], metavar="NAME=MODULE:FUNCTION", help="a model type")
    _asked(requester)


def _shared(role: argparse.ArgumentParser, name: str) -> None:
    role.add_argument("--name", default=f"{name}1", help=f"of this node; default: {name}1")
    role.add_argument("--folder", type=Path, default=Path("mesh"), help="its keys and files; default: mesh")
    role.add_argument("--host", default="127.0.0.1", help="address of this machine that the others reach")
    role.add_argument("--place", help="LATITUDE,LONGITUDE: a hint, checked by round trips")
    role.add_argument("--allow", action="append", default=[], metavar="IP", help="only these may connect; default: all")
    default = ["bootstrap1@127.0.0.1:5555"] if name != "bootstrap" else []
    role.add_argument(
        "--bootstrap", action="append", metavar="NAME@HOST:PORT", help="default: bootstrap1 on this machine"
    )
    role.set_defaults(default_bootstrap=default)
    if name in _PORTS:
        role.add_argument("--port", type=int, default=_PORTS[name], help=f"to listen on; default: {_PORTS[name]}")


def _asked(role: argparse.ArgumentParser) -> None:
    role.add_argument("--data", type=Path, help="folder with train/ and test/ of .npz files")
    role.add_argument("--share-data", action="store_true", help="the data may leave this machine: public or synthetic")
    role.add_argument("--model", help="simple-cnn, resnet-18, unet, meshnet or one that the providers have installed")
    role.add_argument("--configuration", help="JSON of the model's numbers")
    role.add_argument("--batch", help="default: 16")
    role.add_argument("--rate", help="learning rate; default: 0.001")
    role.add_argument("--epochs", help="default: 1")
    role.add_argument("--providers", help="how many; default: 1")
    role.add_argument("--aggregations", help="means in an epoch; default: 1")
    role.add_argument("--staleness", help="cycles that a provider may be ahead of the slowest; default: 16")
    role.add_argument("--seed", help="default: 0")
    role.add_argument("--device", help="cpu, gpu or mps; default: whatever most have")
    role.add_argument("--memory", type=float, default=0.0, metavar="GB", help="of each provider, at least")
    role.add_argument("--cores", type=int, default=0, help="of each provider, at least")
    role.add_argument("--distance", type=float, default=0.0, metavar="KM", help="from --place, at most")
    role.add_argument("--strict", action="store_true", help="fewer providers than wanted are an error")
    role.add_argument("--output", type=Path, default=Path("mesh-task"), help="for the task and its result")
    role.add_argument("--port", type=int, default=5580, help="of the data; default: 5580")
    role.add_argument("--detach", action="store_true", help="end when all providers learn")
    role.add_argument("--resume", action="store_true", help="come back for the result")


def _need() -> None:
    missing = []
    for name in _NEEDED:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            missing.append(name)
    if missing:
        raise PeersError(
            f"a mesh needs {', '.join(missing)}, which is not installed: pip install coinstac-meshnet[mesh]"
        )


def _contacts(options: argparse.Namespace) -> list[Contact]:
    from peers.mesh.node import Contact

    return [Contact.read(text) for text in options.bootstrap or options.default_bootstrap]


def _place(options: argparse.Namespace) -> Place | None:
    from peers.mesh.place import Place

    return Place.read(options.place) if options.place else None


def _until_asked() -> None:
    """Wait for SIGINT or SIGTERM."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    while not asked.wait(0.5):
        pass


def _bootstrap(options: argparse.Namespace) -> None:
    _need()
    from peers.mesh import post
    from peers.mesh.bootstrap import Bootstrap
    from peers.mesh.keys import Known, pair
    from peers.mesh.registry import Registry

    port = post.checked(options.port)
    node = Bootstrap(
        pair(options.folder, options.name),
        Known(options.folder),
        Registry(options.lease),
        host=options.host,
        port=port,
        place=_place(options),
        contacts=_contacts(options),
        told=say,
        allowed=options.allow,
        cache=options.folder / f"{options.name}-met.json",
    )
    say(f"bootstrap node {options.name} listens on {node.address}")
    _until_asked()
    node.close()


def _provider(options: argparse.Namespace) -> None:
    _need()
    from peers.mesh import models, post
    from peers.mesh.keys import Known, pair
    from peers.mesh.machine import Machine, given
    from peers.mesh.provider import Provider

    port = post.checked(options.port)
    for text in options.install:
        models.install(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    machine = given(Machine.found(options.folder), options.device, options.memory, options.cores, say)
    node = Provider(
        pair(options.folder, options.name),
        Known(options.folder),
        machine,
        options.folder / options.name,
        _contacts(options),
        host=options.host,
        port=port,
        place=_place(options),
        take_data=options.take_data,
        told=say,
        allowed=options.allow,
    )
    say(f"provider {options.name} listens on {node.address}: {machine.device}, {machine.cores} cores")
    _until_asked()
    if node.slot.busy:
        say("the task at work is finished first; once more Ctrl-C ends it")
        signal.signal(signal.SIGINT, signal.default_int_handler)
    node.close()


def _requester(options: argparse.Namespace) -> None:
    _need()
    from peers.mesh import post
    from peers.mesh.keys import Known, pair
    from peers.mesh.node import Member
    from peers.mesh.offers import Criteria, Offer
    from peers.mesh.requester import Requester
    from peers.mesh.task import Task
    from peers.mesh.wish import settled

    port = post.checked(options.port)
    if options.data is None:
        raise PeersError("there are no data; wanted --data FOLDER with train/ and test/")
    keys, place = pair(options.folder, options.name), _place(options)
    own = Offer(options.name, f"tcp://{options.host}:{port}", keys.public, "requester", place=place)
    cache = options.folder / f"{options.name}-met.json"
    member = Member(keys, Known(options.folder), lambda: own, _contacts(options), cache, say)
    requester = Requester(member, options.output, told=say, host=options.host, port=port, strict=options.strict)
    if options.resume:
        task = Task.read(options.output)
    else:
        names = ("model", "batch", "rate", "epochs", "providers", "aggregations", "staleness", "seed", "device")
        raw = {name: getattr(options, name) for name in names}
        wish = settled(raw | {"configuration": _object(options.configuration)}, say)
        criteria = Criteria(memory=options.memory * 1e9, cores=options.cores, place=place, kilometres=options.distance)
        task = requester.begin(options.data, wish, criteria, options.share_data)
        say(f"{', '.join(name for name, _, _ in task.workers)} learn; {task.workers[0][0]} leads")
    if options.detach:
        return
    found = requester.result(task, options.data) or {}
    for name, value in found.items():
        say(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


def _object(text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        raise PeersError("the model's configuration is no JSON; wanted such as '{\"classes\": 10}'") from None
