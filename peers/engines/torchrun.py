"""Peers as processes of `torch.distributed`: the only file that imports it, besides the launcher beside it.

`joined` meets the others and is left when all have said goodbye; `Group.run` performs one peer's protocol::

    with torchrun.joined(Options(names)) as group:
        result = group.run(peer, steps)

Who is who: rank r is the r-th of the sorted names, as in `Peer.names`, so that of eleven sites local10 has rank 2.
Where all meet is read from what `torchrun` (or `launch`) sets, RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or from
what Slurm sets, SLURM_PROCID and SLURM_NTASKS, with the master given.

A mean goes round the ring of `peers.collectives`, every value counted when it has been sent, or through the backend's
own all-reduce. That one and the broadcast cannot be counted from outside and are by their closed form: 2 (n - 1) / n of
the vector from each peer to the next, and the vector from the root to each other.

Messages travel point to point, in a group of processes of their own. Of gloo it was measured that the death of one
process (SIGKILL) raises, within milliseconds, in those operations of the others that are with the dead one, and that
those between the living go on, if each is waited for in a thread of its own; a time-out, though, breaks all that a
process has in that group, so nothing there has one.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from computation.errors import PeersError
from computation.wire.payload import Vector
from peers import collectives, message
from peers.counts import ring_sent
from peers.engines.links import ENDED, FAILED, WAITING, WORKING, Bytes, Links, Note
from peers.engines.meeting import Place, interface, place, reach
from peers.peer import Peer
from peers.requests import (
    COLLECTIVE,
    MEASUREMENT,
    MEMBERSHIP,
    POINT,
    Broadcast,
    Mean,
    Message,
    Peers,
    Poll,
    Report,
    Request,
    Send,
    Wait,
    driven,
)
from peers.traffic import Count, Traffic

__all__ = ["BACKEND", "NAME", "OFFERS", "RING", "Group", "Options", "joined"]

T = TypeVar("T")

NAME = "torchrun"
OFFERS = frozenset({COLLECTIVE, MEASUREMENT, MEMBERSHIP, POINT})
#: Ways to a mean: our own ring, whose every value is counted, and the backend's all-reduce.
RING, BACKEND = "ring", "backend"

#: Seconds between two looks at who has come, and for others to say what they saw when a collective came to nothing.
_LOOK, _GRACE = 0.05, 2.0
#: Longer than any run: a receiver waits for as long as the sender lives.
_FOR_EVER = timedelta(days=3650)
#: Of this process, so that a launcher's store which outlives a group is a fresh one for the next.
_MEETINGS = itertools.count()


@dataclass(frozen=True)
class Options:
    """How peers meet, and how they come to a mean; the same at all of them, besides the interface.

    Attributes
    ----------
    names : tuple of str
        Of all peers.
    collective : str
        `RING` or `BACKEND`.
    device : str
        "cpu": gloo. "cuda": means and broadcasts by NCCL, with one GPU for each peer of a machine.
    master : str
        HOST:PORT where rank 0 keeps the meeting point; as the environment says by default.
    interface : str
        Name of the network interface, such as eth0; as GLOO_SOCKET_IFNAME says by default, and the loopback where the
        master is on it.
    patience : float
        Seconds within which all must have come, and for a clean end.
    """

    names: tuple[str, ...]
    collective: str = RING
    device: str = "cpu"
    master: str = ""
    interface: str = ""
    patience: float = 60.0

    def common(self) -> str:
        """Return what must be the same at all peers."""
        return json.dumps([sorted(self.names), self.collective, self.device])


@dataclass(eq=False)
class Group:
    """All peers of a run, seen by one of them.

    Attributes
    ----------
    names : tuple of str
        Of all, by rank.
    rank : int
        Of this one.
    run_name : str
        The same at all, and unlike that of any other run.
    traffic : Traffic
        What this peer sent.
    """

    names: tuple[str, ...]
    rank: int
    run_name: str
    traffic: Traffic
    _options: Options
    _links: Links
    _patience: float = field(default=0.0, init=False)
    _over: str = field(default="", init=False)

    @property
    def name(self) -> str:
        """Name of this peer."""
        return self.names[self.rank]

    def run(self, peer: Peer, steps: Generator[Request, Any, T]) -> T:
        """Perform a peer's protocol to its end and return its result.

        Several protocols after each other want one and the same peer: mail for the next, of those who are through with
        the one before, comes early and lies with the peer.

        Raises
        ------
        PeersError
            If the peer is none of this group, asks for what this engine does not carry, or a collective came to
            nothing: it names who is gone.
        """
        if (peer.names, peer.name) != (self.names, self.name):
            raise PeersError(
                f"peer {peer.name} of {', '.join(peer.names)} runs as {self.name} of {', '.join(self.names)}; "
                "wanted the same names, in sorted order, as there are ranks"
            )
        self._patience = peer.patience
        _world().set_timeout(timedelta(seconds=peer.patience))
        self._links.start(message.longest(peer.learner.manifest, peer.learner.dtype))
        return driven(steps, lambda request: self._perform(peer, request))

    def _perform(self, peer: Peer, request: Request) -> Any:
        match request:
            case Mean():
                return self._together("a mean", lambda: self._mean(request))
            case Broadcast(values, root):
                return self._together("a broadcast", lambda: self._broadcast(values, root))
            case Send():
                return self._send(peer, request)
            case Poll():
                return self._taken(peer, 0.0)
            case Wait(seconds):
                return self._taken(peer, seconds)
            case Peers():
                return tuple(sorted((*self._links.alive, self.name)))
            case Report():
                return None
        raise PeersError(f"engine {NAME} does not carry {request.kind}; wanted one of {', '.join(sorted(OFFERS))}")

    def part(self, note: Note, seconds: float) -> bool:
        """Say goodbye to all; tell whether every link is quiet after so many seconds."""
        return self._links.leave(note, seconds, flush=note.state == ENDED)

    # Collectives

    def _together(self, what: str, work: Callable[[], Vector | None]) -> Vector | None:
        """Do what all do together; where it comes to nothing, say who is the cause."""
        if self._over:
            raise PeersError(self._over)
        self._links.state = WAITING
        try:
            return work()
        except RuntimeError as error:
            self._over = self._blame(what)
            raise PeersError(self._over, str(error)) from error
        finally:
            self._links.state = WORKING

    def _blame(self, what: str) -> str:
        """Leave all others, hear what they do, and put into words who is the cause."""
        self._links.leave(Note(WAITING, self._links.broken), min(_GRACE, self._patience), flush=False)
        notes, broken = self._links.notes, self._links.broken
        gone = {*broken, *(name for note in notes.values() for name in note.gone)} - {self.name}
        faults = [f"{name} is gone" for name in sorted(gone)]
        for state, saying in {
            FAILED: "has failed",
            ENDED: "has ended already",
            WORKING: f"did not come to it within {self._patience:g} seconds",
        }.items():
            faults += [f"{name} {saying}" for name in sorted(notes) if notes[name].state == state and name not in gone]
        faults += [f"{name} does not answer" for name in self._links.alive if name not in gone]
        faults = faults or [f"{' and '.join(sorted(notes)) or 'others'} no longer waited for {self.name}"]
        return (
            f"{what} over all peers came to nothing: {', '.join(faults)}; wanted all "
            f"{len(self.names)} at the same step; start the run again, or take a protocol that goes on without a peer"
        )

    def _mean(self, request: Mean) -> Vector | None:
        return self._ring_mean(request) if self._options.collective == RING else self._backend_mean(request)

    def _ring_mean(self, request: Mean) -> Vector | None:
        """Drive this peer's part of the ring: each shift sends to the right, and waits for what comes from the left.

        All that will come is asked for at the beginning: gloo asks before it sends, and nobody shall wait for that.
        """
        size, limit = len(self.names), timedelta(seconds=self._patience)
        right, left = (self.rank + 1) % size, (self.rank - 1) % size
        values = request.values
        room = [np.empty(count, values.dtype) for count in collectives.expected(values.size + 1, self.rank, size)]
        coming = deque((one, dist.irecv(torch.from_numpy(one), left) if one.size else None) for one in room)
        shifts = collectives.mean(request, self.rank, size)
        try:
            going, _ = next(shifts)
            while True:
                sent = dist.isend(_tensor(going), right) if going.size else None
                come, arrival = coming.popleft()
                _finish(arrival, limit)
                _finish(sent, limit)
                if going.size:
                    self._count(right, going.size, going.nbytes)
                going, _ = shifts.send(come)
        except StopIteration as end:
            mean: Vector | None = end.value
            return mean

    def _backend_mean(self, request: Mean) -> Vector | None:
        values = request.values
        total = self._moved(collectives.weighted(values, request.weight))
        dist.all_reduce(total)
        size = len(self.names)
        sent = ring_sent(values.size + 1, size, self.rank)
        if sent:
            self._count((self.rank + 1) % size, sent, sent * values.itemsize)
        return collectives.divided(total.cpu().numpy(), request.most)

    def _broadcast(self, values: Vector, root: str) -> Vector:
        if root not in self.names:
            raise PeersError(f"{root} is to tell all others; wanted one of {', '.join(self.names)}")
        told = self._moved(values.copy())
        dist.broadcast(told, self.names.index(root))
        if root == self.name:
            for rank in range(len(self.names)):
                if rank != self.rank:
                    self._count(rank, values.size, values.nbytes)
        return told.cpu().numpy()

    def _moved(self, values: Vector) -> torch.Tensor:
        """Return a tensor on the device; on the CPU it shares the memory."""
        return _tensor(values).to(self._options.device)

    def _count(self, rank: int, values: int, size: int) -> None:
        self.traffic.count(self.name, self.names[rank], Count(1, values, size))

    # Point to point

    def _send(self, peer: Peer, request: Send) -> None:
        told, learner = request.message, peer.learner
        content = message.encode(told, learner.manifest, self.name, self.run_name)
        values = 0 if told.values is None else told.values.size
        if not self._links.put(request.to, content, values) and request.reliable:
            raise PeersError(
                f"{request.to} takes no more messages, and one that must not be lost is for it; "
                "wanted a peer that reads what it is sent; look at what it does"
            )

    def _taken(self, peer: Peer, seconds: float) -> list[Message]:
        """Return the messages that have come and are sound; of the others, tell."""
        found: list[Message] = []
        deadline = time.monotonic() + seconds
        while not found and (taken := self._links.take(deadline - time.monotonic())):
            for sender, content, fault in taken:
                if fault:
                    peer.refused(sender, fault)
                elif one := message.received(content, peer, sender, self.run_name):
                    found.append(one)
        return found


def _finish(work: dist.Work | None, limit: timedelta) -> None:
    """Wait for one half of an exchange: it does not know the group's time-out as of now, but that of its beginning."""
    if work is not None:
        work.wait(limit)


def _world() -> dist.ProcessGroup:
    world = dist.group.WORLD
    if world is None:
        raise PeersError("the group of peers has been left; wanted its protocols inside `with joined(...)`")
    return world


def _tensor(values: Vector) -> torch.Tensor:
    """Return a tensor over the same memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that must not be written: nobody does
        return torch.from_numpy(values)


@contextmanager
def joined(options: Options) -> Iterator[Group]:
    """Meet all other peers, and part from them at the end.

    Who ends well waits, at most for the patience, until all others have read what it sent; who does not, says so.

    Raises
    ------
    PeersError
        If the environment or the options do not say who this process is and where all meet, if the others' options
        differ, or if somebody is missing after the patience: it names them.
    """
    group = _join(options)
    note, seconds = Note(FAILED), _GRACE
    try:
        yield group
        note, seconds = Note(ENDED), options.patience
    finally:
        # Where a link does not become quiet, a thread waits in it: torn down under it, it would abort the process.
        if group.part(note, seconds):
            dist.destroy_process_group()


def _join(options: Options) -> Group:
    _checked(options)
    names = tuple(sorted(options.names))
    meeting = place(len(names), options.master, os.environ)
    if through := interface(options.interface or os.environ.get("GLOO_SOCKET_IFNAME", ""), meeting.host):
        os.environ["GLOO_SOCKET_IFNAME"] = through
    store = _Meeting(meeting, names, options.patience)
    store.gather(options.common())
    traffic = Traffic()
    wire = _connected(store, options)
    return Group(
        names, meeting.rank, store.run_name, traffic, options, Links(wire, names, names[meeting.rank], traffic)
    )


def _checked(options: Options) -> None:
    if dist.is_initialized():
        raise PeersError("this process has joined other peers already; wanted one group in a process")
    if len(set(options.names)) != len(options.names) or not options.names:
        raise PeersError(f"the peers are named {', '.join(options.names) or 'nothing'}; wanted names that differ")
    if options.collective not in (RING, BACKEND) or options.device not in ("cpu", "cuda"):
        raise PeersError(
            f"collective is {options.collective!r} on {options.device!r}; wanted {RING} or {BACKEND} on cpu, "
            f"or {BACKEND} on cuda"
        )
    if options.device == "cuda":
        _check_cuda(options)


def _check_cuda(options: Options) -> None:
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.collective != BACKEND or not dist.is_nccl_available() or local >= count:
        raise PeersError(
            f"means on GPUs were asked for, and here are {count} GPUs and "
            f"{'an' if dist.is_nccl_available() else 'no'} NCCL, for peer {local} of this machine and collective "
            f"{options.collective}; wanted one GPU for each peer, and collective {BACKEND}; without them take cpu"
        )
    torch.cuda.set_device(local)


class _Meeting:
    """The store in which all peers write down that they have come.

    Parameters
    ----------
    meeting : Place
        Where it is.
    names : tuple of str
        Of all peers, by rank.
    patience : float
        Seconds within which all must have come.
    """

    def __init__(self, meeting: Place, names: tuple[str, ...], patience: float) -> None:
        self.place, self._names, self.patience = meeting, names, patience
        self._deadline = time.monotonic() + patience
        if not meeting.keeps:
            reach(meeting, names[0], patience)
        try:
            store = TCPStore(
                meeting.host, meeting.port, None, meeting.keeps, timedelta(seconds=patience), wait_for_workers=False
            )
        except RuntimeError as error:
            reason = "the port is taken, or the address is another machine's" if meeting.keeps else "no peer answers"
            raise PeersError(
                f"the peers cannot meet at {meeting.host}:{meeting.port}: {reason}; wanted a free port on the machine "
                "with rank 0; give another one",
                str(error),
            ) from error
        self.store = PrefixStore(f"peers/{meeting.attempt}/{next(_MEETINGS)}", store)

    def gather(self, common: str) -> None:
        """Wait until all have come, and see that they agree on the options; take over the run's name."""
        missing = self._names
        try:
            self.store.set(str(self.place.rank), common)
            if self.place.rank == 0:
                self.store.set("run", uuid.uuid4().hex)
            while missing := self._missing():
                if time.monotonic() > self._deadline:
                    raise self._lacks(missing)
                time.sleep(_LOOK)
            told = {name: self.store.get(str(rank)).decode() for rank, name in enumerate(self._names)}
            self.run_name = self.store.get("run").decode()
        except RuntimeError as error:
            raise self._lacks(missing, str(error)) from error
        differ = [name for name, other in told.items() if other != common]
        if differ:
            raise PeersError(
                f"{', '.join(differ)} has other names of peers or another way to a mean; wanted the same options at "
                "all of them"
            )

    def _missing(self) -> tuple[str, ...]:
        return tuple(name for rank, name in enumerate(self._names) if not self.store.check([str(rank)]))

    def _lacks(self, missing: tuple[str, ...], detail: str = "") -> PeersError:
        return PeersError(
            f"of {len(self._names)} peers {', '.join(missing)} did not come to {self.place.host}:{self.place.port} "
            f"within {self.patience:g} seconds; wanted all of them started; look at their logs",
            detail,
        )


class _Wire:
    """Arrays of bytes over a group of processes that nothing else uses."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def send(self, place: int, content: Bytes) -> None:
        _finish(dist.isend(torch.from_numpy(content), place, self._group), _FOR_EVER)

    def receive(self, place: int, content: Bytes) -> None:
        _finish(dist.irecv(torch.from_numpy(content), place, self._group), _FOR_EVER)


def _connected(meeting: _Meeting, options: Options) -> _Wire:
    """Connect every process with every other, twice: for what all do together, and for messages."""
    backend = "gloo" if options.device == "cpu" else "cpu:gloo,cuda:nccl"
    limit, here, hook = timedelta(seconds=options.patience), meeting.place, sys.excepthook
    try:
        dist.init_process_group(backend, store=meeting.store, rank=here.rank, world_size=here.size, timeout=limit)
        mail = dist.new_group(backend="gloo", timeout=limit)
    except RuntimeError as error:
        through = os.environ.get("GLOO_SOCKET_IFNAME", "the one of the machine's name")
        raise PeersError(
            f"all peers have come, and cannot connect with each other within {options.patience:g} seconds; wanted a "
            f"network interface over which they reach each other, not {through}; name one",
            str(error),
        ) from error
    finally:
        sys.excepthook = hook  # torch's own writes the rank before every line: once more with every group
    return _Wire(mail)
