"""A requester: it settles what it wants, finds and reserves providers, gives them their data, and comes for the result.

Everything that is needed to come back later lies in its folder; see `peers.mesh.task`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from computation.errors import MessageError, PayloadError, PeersError
from computation.files import replacing
from computation.wire.payload import Vector
from peers import message
from peers.learners import ModuleLearner
from peers.mesh import data, gate, metrics, models, page
from peers.mesh.diary import Diary, duration
from peers.mesh.models import Model
from peers.mesh.node import Member
from peers.mesh.offers import Criteria, Offer
from peers.mesh.search import Found, commonest, search
from peers.mesh.task import Task
from peers.mesh.wish import Wish
from peers.mesh.work import LEADER

__all__ = ["Requester"]

_POLL = 1.0
#: Seconds that providers have to fetch their data.
_FETCHING = 3600.0
_ENVELOPE = message.LONGEST_HEAD + 65_536
_BATCH = 256


@dataclass
class _Reserved:
    """A provider that waits for its task, and where its peers will listen."""

    offer: Offer
    addresses: Sequence[str]


class Requester:
    """One that wants a model.

    Parameters
    ----------
    member : Member
        How it asks other nodes.
    folder : Path
        For its task and the result; made if need be.
    told : callable
        Hears what happens.
    host, port : str and int
        Where its data are served.
    strict : bool
        Whether fewer providers than wanted are an error.
    patience : float
        Seconds to wait for enough providers, and for one that does not answer.
    """

    def __init__(
        self,
        member: Member,
        folder: Path,
        *,
        told: Callable[[str], None] = lambda _: None,
        host: str = "127.0.0.1",
        port: int = 0,
        strict: bool = False,
        patience: float = 60.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._member, self._folder, self._diary = member, folder, Diary(folder, told)
        self._told = self._diary.tell
        self._host, self._port, self._strict, self._patience = host, port, strict, patience

    def begin(self, source: Path, wish: Wish, criteria: Criteria, share: bool) -> Task:
        """Find providers, give them their parts, and return when all learn.

        Parameters
        ----------
        source : Path
            Folder with a train and a test part.
        wish : Wish
            What is wanted.
        criteria : Criteria
            Of each provider.
        share : bool
            Whether the owner agrees that the data leave their place.

        Raises
        ------
        PeersError
            If the data or the model cannot be, or too few providers take the task.
        """
        gate.require_consent(share, True)
        gate.refuse_people(source)
        train, _ = data.part(source, "train"), data.part(source, "test")
        models.model(wish.model, wish.configuration)
        name = uuid.uuid4().hex
        size = float(train[0].nbytes + train[1].nbytes) * 1.01 + 65_536
        reserved = self._present(name, wish, criteria, size, self._reserved(name, wish, criteria, size))
        with self._given(train, [one.offer.name for one in reserved], wish.seed) as accounts:
            workers = self._started(name, wish, reserved, accounts, size)
            task = Task(name, wish, workers)
            task.write(self._folder)
            self._diary.begin(task)
            self._await_fetched(task)
        return task

    @contextmanager
    def _given(self, train: data.Arrays, names: list[str], seed: int) -> Iterator[dict[str, data.Account]]:
        """Serve each provider its part while inside."""
        folder = self._folder / "parts"
        counts = data.cut(train, folder, names, seed)
        self._told("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        with ExitStack() as stack:
            yield dict(stack.enter_context(data.served(folder, names, self._host, self._port)).accounts)

    def _content(self, name: str, wish: Wish, size: float, step: str) -> dict[str, Any]:
        return {
            "task": name,
            "step": step,
            "numWorkers": wish.providers,
            "numEpochs": wish.epochs,
            "model": wish.model,
            "configuration": wish.configuration,
            "batchSize": wish.batch,
            "learningRate": wish.rate,
            "seed": wish.seed,
            "staleness": wish.staleness,
            "aggregations": wish.aggregations,
            "dataBytes": size,
            "raw": True,
        }

    def _present(
        self, name: str, wish: Wish, criteria: Criteria, size: float, reserved: list[_Reserved]
    ) -> list[_Reserved]:
        """Return who is there before any data are divided; for those who have gone others are looked for."""
        there = self._there(reserved, name, wish, size, "; another one is looked for")
        return reserved if len(there) == len(reserved) else self._reserved(name, wish, criteria, size, there)

    def _reserved(
        self, name: str, wish: Wish, criteria: Criteria, size: float, already: Sequence[_Reserved] = ()
    ) -> list[_Reserved]:
        """Reserve as many providers as are wanted, or as there are; who loses one to another requester looks again."""
        deadline, held = time.monotonic() + self._patience, {one.offer.name: one for one in already}
        content, lost = self._content(name, wish, size, "reserve"), False
        while True:
            again, lost = lost, False
            found = search(self._member, replace(criteria, device=wish.device), wish.providers, self._told)
            for one in self._of_one_kind(found, wish.device):
                if len(held) < wish.providers and one.offer.name not in held:
                    answer = self._ask(one.offer.address, one.offer.key, content)
                    if answer is not None and answer.status == "reserved" and len(answer.addresses) == 2:
                        held[one.offer.name] = _Reserved(one.offer, tuple(answer.addresses))
                    elif answer is not None:
                        lost = lost or answer.status == "busy"
                        self._told(f"{one.offer.name} does not take the task: {answer.reason or answer.status}")
            if len(held) == wish.providers or time.monotonic() > deadline:
                break
            if held and not self._strict and (again or not lost):
                break
            time.sleep(_POLL)
        self._expect(name, held, wish)
        return list(held.values())

    def _of_one_kind(self, found: tuple[Found, ...], device: str) -> list[Found]:
        """Return those with the wanted device; with any, those with the commonest first."""
        common = device or commonest(found)
        return sorted(found, key=lambda one: (one.offer.device != common, one.round_trip))

    def _expect(self, name: str, held: dict[str, _Reserved], wish: Wish) -> None:
        if len(held) < wish.providers:
            kind = f" with {wish.device}" if wish.device else ""
            text = f"{wish.providers} providers{kind} were wanted and {len(held)} take the task"
            if self._strict or not held:
                for one in held.values():
                    self._release(one, name)
                raise PeersError(f"{text}; wait, ask for fewer, or for less of each")
            self._told(f"{text}; it goes on with those")

    def _release(self, one: _Reserved, name: str) -> None:
        self._ask(one.offer.address, one.offer.key, {"task": name, "step": "release"})

    def _ask(self, address: str, key: bytes, content: dict[str, Any], longest: int = 1 << 20) -> Any:
        answer = self._member.ask(address, key, taskRequest=content, longest=longest)
        return answer.taskResponse if answer is not None and answer.HasField("taskResponse") else None

    def _started(
        self, name: str, wish: Wish, reserved: list[_Reserved], accounts: dict[str, data.Account], size: float
    ) -> tuple[tuple[str, str, str], ...]:
        """Start the task at each, the first leads; it goes on without those who have gone since data were divided."""
        there = self._there(reserved, name, wish, size)
        if not there or (self._strict and len(there) < len(reserved)):
            raise PeersError("the providers have gone before the start; begin again")
        leader, nodes = there[0], list[dict[str, Any]]()
        for one in there:
            nodes.append({"id": one.offer.name, "address": one.addresses[0], "key": one.offer.key})
        nodes.append({"id": leader.offer.name + LEADER, "address": leader.addresses[1], "key": leader.offer.key})
        begun = []
        for one in there:
            account = accounts[one.offer.name]
            content = self._content(name, wish, size, "start") | {
                "leaderUuid": leader.offer.name + LEADER,
                "assignedWorkers": nodes,
                "indexFile": data.INDEX,
                **{key: getattr(account, key) for key in ("host", "port", "user", "password", "certificate")},
            }
            answer = self._ask(one.offer.address, one.offer.key, content)
            if answer is None or answer.status != "learning":
                self._told(f"{one.offer.name} did not begin: {answer.reason if answer else 'it does not answer'}")
                continue
            begun.append((one.offer.name, one.offer.address, one.offer.key.decode()))
        if not begun:
            raise PeersError("no provider began; look at their logs")
        return tuple(begun)

    def _there(self, reserved: list[_Reserved], name: str, wish: Wish, size: float, then: str = "") -> list[_Reserved]:
        """Return those who are still there; tell of each of the others."""
        there = [one for one in reserved if self._still(one, name, wish, size)]
        for one in reserved:
            if one not in there:
                self._told(f"{one.offer.name} has gone between its assignment and the start{then}")
        return there

    def _still(self, one: _Reserved, name: str, wish: Wish, size: float) -> bool:
        answer = self._ask(one.offer.address, one.offer.key, self._content(name, wish, size, "reserve"))
        return answer is not None and answer.status == "reserved"

    def _await_fetched(self, task: Task) -> None:
        deadline = time.monotonic() + _FETCHING
        while time.monotonic() < deadline:
            states = [self._polled(task, worker, "poll") for worker in task.workers]
            if not any(state is not None and state.status == "fetching" for state in states):
                return
            time.sleep(_POLL / 4)
        self._told("not all providers have fetched their data; those who have not will fail")

    def _polled(self, task: Task, worker: tuple[str, str, str], step: str) -> Any:
        _, address, key = worker
        longest = _ENVELOPE + (message.longest(*self._shape(task)) if step == "result" else 0)
        answer = self._ask(address, key.encode(), {"task": task.name, "step": step}, longest)
        if answer is not None and answer.metrics:
            self._diary.note(worker[0], answer.metrics, answer.seconds)
        return answer

    def _learner(self, task: Task) -> ModuleLearner:
        asked = models.model(task.wish.model, task.wish.configuration)
        nothing = torch.utils.data.TensorDataset(torch.zeros(1))
        return models.learner(asked, nothing, batch=1, rate=1.0, seed=task.wish.seed, name="requester")

    def _shape(self, task: Task) -> tuple[Any, Any]:
        learner = self._learner(task)
        return learner.manifest, learner.dtype

    def result(self, task: Task, source: Path, seconds: float = float("inf")) -> dict[str, Any] | None:
        """Wait for the result, evaluate it on the test part, and write both; nothing where it is not there in time.

        The leader is asked first, then the followers: all keep the last mean. Where none of them has ended well, the
        last mean of whoever has gone furthest is taken, and that is told.

        Raises
        ------
        PeersError
            If no provider of the task has a model any more.
        """
        deadline, heard = time.monotonic() + seconds, time.monotonic()
        while True:
            states = {worker: self._polled(task, worker, "poll") for worker in task.workers}
            for worker, state in states.items():
                if (
                    state is not None
                    and state.status == "complete"
                    and (values := self._values(task, worker)) is not None
                ):
                    return self._kept(task, source, values, duration(state.seconds))
            there = [state for state in states.values() if state is not None]
            heard = time.monotonic() if there else heard
            at_work = any(state.status in ("fetching", "learning") for state in there)
            if not at_work and (there or time.monotonic() - heard > self._patience):
                return self._left(task, source)
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL)

    def _left(self, task: Task, source: Path) -> dict[str, Any]:
        """Take the last mean of a task that did not end well."""
        for worker in task.workers:
            state = self._polled(task, worker, "poll")
            self._told(f"{worker[0]}: {f'{state.status} {state.reason}' if state else 'it does not answer'}")
            if (values := self._values(task, worker)) is not None:
                self._told(f"the task did not end well; the last mean of {worker[0]} is taken")
                return self._kept(task, source, values, 0.0)
        raise PeersError("no provider of this task has a model of it any more; begin again")

    def _values(self, task: Task, worker: tuple[str, str, str]) -> Vector | None:
        """Return a provider's last mean; of what is no model of this task, or not finite, nothing, and that is told."""
        answer = self._polled(task, worker, "result")
        if answer is None or not answer.state:
            return None
        manifest, dtype = self._shape(task)
        try:
            return message.decode(answer.state, manifest, dtype, worker[0], task.name).values
        except (MessageError, PayloadError) as error:
            self._told(f"what {worker[0]} gives is no model of this task: {error.public}")
            return None

    def _kept(self, task: Task, source: Path, values: Vector, seconds: float) -> dict[str, Any]:
        learner = self._learner(task)
        learner.load_vector(values)
        with replacing(self._folder / "model.npz") as partial, partial.open("wb") as file:
            arrays: dict[str, Any] = {name: values[place] for name, place in learner.manifest.slices.items()}
            np.savez(file, **arrays)
        asked = models.model(task.wish.model, task.wish.configuration)
        found = evaluate(asked, learner, data.part(source, "test"), seconds)
        with replacing(self._folder / "metrics.json") as partial:
            partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
        self._diary.write("result", **found)
        page.write(self._folder, found)
        return found


@torch.inference_mode()
def evaluate(asked: Model, learner: ModuleLearner, arrays: data.Arrays, seconds: float) -> dict[str, Any]:
    """Return the report's figures of a model on some data; of a regression the loss and the time alone."""
    module = learner.model.eval()
    inputs, targets = (torch.from_numpy(array) for array in arrays)
    matrix, losses = np.zeros((max(asked.classes, 1),) * 2, np.int64), []
    for start in range(0, len(inputs), _BATCH):
        here, wanted = inputs[start : start + _BATCH], targets[start : start + _BATCH]
        found = module(here)
        losses.append((float(models.TYPES[asked.type].loss(found, wanted)), len(here)))
        if asked.classes:
            matrix += metrics.confusion(wanted.numpy(), found.argmax(1).numpy(), asked.classes)
    if not asked.classes:
        return {"loss": sum(loss * size for loss, size in losses) / len(inputs), "seconds": seconds}
    return metrics.figures(matrix, losses, seconds)
