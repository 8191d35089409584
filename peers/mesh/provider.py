"""A provider: it says truthfully what it has, takes one task at a time, and refuses what does not fit."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from computation.errors import MeshNetError, MessageError, PeersError, public_text
from peers.mesh import gate, letters, models, post
from peers.mesh.keys import Known, Pair
from peers.mesh.machine import Machine
from peers.mesh.node import Contact, Member
from peers.mesh.offers import Criteria, Offer
from peers.mesh.place import Place
from peers.mesh.registry import Registry
from peers.mesh.slot import Slot
from peers.mesh.work import LEADER, Work, checked_model

__all__ = ["Provider", "admit"]

#: Seconds that a reservation holds before the task must have begun, and finished tasks whose results are kept.
_RESERVED, _MOST_RESULTS = 60.0, 4
_NEIGHBOURS = 16
_MOST_WORKERS = 1001


def admit(task: Any, machine: Machine, take_data: bool) -> models.Model:
    """Return the model of a task that fits here.

    Raises
    ------
    PeersError
        Saying what does not fit.
    """
    gate.require_consent(task.raw, take_data)
    asked = checked_model(task)
    needs = asked.parameters * models.BYTES_PER_PARAMETER
    if needs > machine.memory:
        raise PeersError(
            f"the model has {asked.parameters} parameters and needs {needs / 1e9:.3g} GB; this node gives "
            f"{machine.memory / 1e9:.3g} GB; take a smaller model or a larger node"
        )
    if not 0 <= task.dataBytes <= machine.disk:
        raise PeersError(
            f"the data have {task.dataBytes / 1e9:.3g} GB; this node has {machine.disk / 1e9:.3g} GB of disk"
        )
    fits = task.batchSize >= 1 and 0 < task.learningRate < 100 and task.numEpochs >= 1 and task.aggregations >= 1
    if not fits or not task.task or len(task.task) > 64 or not task.task.isalnum():
        raise PeersError("the task's numbers or name cannot be; wanted those that a requester settles")
    return asked


class Provider:
    """A node that learns for others.

    Parameters
    ----------
    pair, known : Pair and Known
        Keys.
    machine : Machine
        What its owner gives; see `machine.given`.
    folder : Path
        For data and results.
    contacts : sequence of Contact
        Bootstrap nodes.
    host, port : str and int
        Where to listen.
    place : Place, optional
        Where it says that it is.
    take_data : bool
        Whether its owner agrees to take raw data.
    lease : float
        Seconds of silence after which another peer of a task is dead.
    told : callable
        Hears what happens.
    allowed : collection of str
        IP addresses that may connect; all when empty.
    """

    def __init__(
        self,
        pair: Pair,
        known: Known,
        machine: Machine,
        folder: Path,
        contacts: Sequence[Contact],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        place: Place | None = None,
        take_data: bool = False,
        lease: float = 10.0,
        told: Callable[[str], None] = lambda _: None,
        allowed: Collection[str] = (),
    ) -> None:
        self._pair, self._known, self._machine, self._folder = pair, known, machine, folder
        self._host, self._take_data, self._lease, self._told = host, take_data, lease, told
        self.slot, self._works = Slot(), dict[str, tuple[str, Work]]()
        self._addresses: dict[str, list[str]] = {}
        self._threads: list[threading.Thread] = []
        self._neighbours = Registry()
        sizes: dict[str, Any] = {
            "device": machine.device,
            "memory": machine.memory,
            "cores": machine.cores,
            "disk": machine.disk,
        }
        self._offer = Offer(pair.name, f"tcp://{host}:1", pair.public, "provider", place=place, **sizes)
        folder.mkdir(parents=True, exist_ok=True)
        self._server = post.Server(
            pair, known, self._handle, host=host, port=port, longest=letters.LONGEST, told=told, allowed=allowed
        )
        self._offer = replace(self._offer, address=self._server.address)
        self._member = Member(pair, known, lambda: self.offer, contacts, folder / "met.json", told)
        try:
            self._member.stay()
        except BaseException:
            self._server.close()
            raise
        self._meet()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._offer.address

    @property
    def offer(self) -> Offer:
        """What it offers now."""
        return replace(self._offer, busy=self.slot.busy)

    def _meet(self) -> None:
        """Ask the bootstrap node who else is there, so that whoever asks this one finds them, too."""
        assert self._member.place is not None
        answer = self._member.ask(*self._member.place, discoveryRequest=Criteria().fields(_NEIGHBOURS))
        if answer is not None and answer.HasField("discoveryResponse"):
            offers = [Offer.read(node) for node in answer.discoveryResponse.availablePeers]
            for one in offers:
                self._neighbours.renew(one)
            self._member.remember(offers)

    def _part(self) -> None:
        """Tell those who may still name this node to others that it has gone."""
        assert self._member.place is not None
        answer = self._member.ask(*self._member.place, tries=1, discoveryRequest=Criteria().fields(_NEIGHBOURS))
        if answer is None or not answer.HasField("discoveryResponse"):
            return
        others = [node for node in answer.discoveryResponse.availablePeers if node.id != self._pair.name]
        if others:
            with ThreadPoolExecutor(len(others)) as pool:
                list(pool.map(self._say_goodbye, others))

    def _say_goodbye(self, node: Any) -> None:
        content = {"node": self.offer.node(), "leave": True}
        self._member.ask(node.address, bytes(node.key), tries=1, registration=content)

    def _handle(self, name: str, message: Any) -> Any:
        match message.WhichOneof("payload"):
            case "discoveryRequest":
                found = self._neighbours.find(Criteria.read(message.discoveryRequest), _NEIGHBOURS)
                own = {"callerAddr": message.senderIpAddress, "availablePeers": [one.node() for one in found]}
                return letters.answer(message, self._pair.name, self.address, discoveryResponse=own)
            case "registration" if message.registration.leave and message.registration.node.id == name:
                self._neighbours.leave(name)
                return letters.answer(message, self._pair.name, self.address, acknowledgement={"note": "farewell"})
            case "acknowledgement":
                return letters.answer(message, self._pair.name, self.address, acknowledgement={"note": "here"})
            case "taskRequest":
                try:
                    content = self._asked(name, message.taskRequest)
                except MeshNetError as error:
                    content = {"status": "refused", "reason": public_text(error)}
                return letters.answer(message, self._pair.name, self.address, taskResponse=content)
        raise MessageError(f"{name} sent a {message.WhichOneof('payload')} to a provider; wanted a task")

    def _asked(self, name: str, task: Any) -> dict[str, Any]:
        match task.step:
            case "reserve":
                return self._reserve(name, task)
            case "start":
                return self._start(name, task)
            case "poll" | "result":
                return self._polled(name, task)
            case "release":
                return self._release(name, task)
        raise PeersError(f"a task is to {task.step[:20]!r}; wanted reserve, start, poll, result or release")

    def _reserve(self, name: str, task: Any) -> dict[str, Any]:
        admit(task, self._machine, self._take_data)
        if not self.slot.take(task.task, name, _RESERVED):
            return {"status": "busy", "reason": "another task came first"}
        if task.task not in self._addresses:
            self._addresses = {task.task: [f"tcp://{self._host}:{port}" for port in _free(self._host, 2)]}
        return {"status": "reserved", "lease": _RESERVED, "addresses": self._addresses[task.task]}

    def _start(self, name: str, task: Any) -> dict[str, Any]:
        admit(task, self._machine, self._take_data)
        peers = {node.id: node for node in task.assignedWorkers}
        own = peers.get(self._pair.name)
        if own is None or len(peers) > _MOST_WORKERS or own.address not in self._addresses.get(task.task, ()):
            raise PeersError(
                "this provider is not among the workers, or they are too many, or nothing was reserved here"
            )
        for node in task.assignedWorkers:
            post.host_of(node.address)
            if not self._known.name(bytes(node.key)):
                raise PeersError(f"worker {node.id[:64]} has a key that is not known here; copy it into known/")
            if node.id.removesuffix(LEADER) != self._known.name(bytes(node.key)):
                raise PeersError(f"worker {node.id[:64]} has another's key")
        if not self.slot.keep(task.task, name):
            return {"status": "busy", "reason": "the reservation is over, or the task has begun"}
        folder = self._folder / "tasks" / task.task
        shutil.rmtree(folder, ignore_errors=True)
        disk = min(self._machine.disk, task.dataBytes)
        work = Work(task, self._pair, self._known, folder, disk, self._machine.device, self._lease, self._told)
        self._works[task.task] = name, work
        while len(self._works) > _MOST_RESULTS:
            self._works.pop(next(iter(self._works)))
        self._told(f"task {task.task} of {name} begins, with {len(peers)} peers")
        self._threads.append(work.start(lambda status: self._done(task.task, name, folder, status)))
        return {"status": "learning"}

    def _done(self, task: str, owner: str, folder: Path, status: str) -> None:
        shutil.rmtree(folder / "data", ignore_errors=True)  # they are not this node's
        self.slot.free(task, owner)
        self._told(f"task {task} has ended: {status}")

    def _polled(self, name: str, task: Any) -> dict[str, Any]:
        owner, work = self._works.get(task.task, ("", None))
        if work is None or owner != name:
            raise PeersError("there is no such task of yours here")
        answer: dict[str, Any] = {"status": work.status, "reason": work.reason, "seconds": work.seconds}
        answer["metrics"] = work.progress() if work.cycles else ""
        if task.step == "result":
            answer |= {"state": work.state(), "complete": work.status == "complete"}
        return answer

    def _release(self, name: str, task: Any) -> dict[str, Any]:
        owner, work = self._works.get(task.task, ("", None))
        if work is not None and owner == name:
            work.stop()
            return {"status": work.status}
        self.slot.free(task.task, name)
        return {"status": "released"}

    def close(self, patience: float = float("inf")) -> bool:
        """Finish the task that is at work, leave, and stop; tell whether the leaving was confirmed."""
        for thread in self._threads:
            thread.join(min(patience, threading.TIMEOUT_MAX))
        self._part()
        confirmed = self._member.leave()
        self._server.close()
        return confirmed


def _free(host: str, count: int) -> list[int]:
    """Return ports that are free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = [socket.create_server((host, 0), family=family) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
