"""One peer as a process: `worker.py SCENARIO FOLDER NAMES [JSON of Options]`. What it saw goes into FOLDER/NAME.npz."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

# The repository last inserted, so first: test/ has a folder of the same name as the package `peers`.
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[3]))
import alike
from quadratic import Quadratic

from computation.errors import PeersError
from peers.engines import torchrun
from peers.peer import Peer
from peers.requests import Broadcast, Mean, Message, Peers, Poll, Send, Wait

#: Not divisible by 2 or 4, smaller than 4, and one value.
SIZES = (1, 2, 3, 7, 64, 2198)


def vectors(rank, size, dtype):
    return np.random.default_rng([rank, size]).normal(size=size).astype(dtype)


def collectives(peer, rank):
    """Every size and dtype, with unequal weights; then nobody counts; then every root in turn."""
    seen = {}
    for dtype in ("float32", "float64"):
        for size in SIZES:
            seen[f"mean-{dtype}-{size}"] = yield Mean(vectors(rank, size, dtype), rank + 0.5)
    nobody = yield Mean(np.ones(3, np.float32), 0.0)
    seen["nobody"] = nobody is None
    for root in peer.names:
        seen[f"root-{root}"] = yield Broadcast(vectors(rank, 5, "float64"), root)
    return seen


def compressed(peer, rank):
    """Average the same gradients by PyTorch's PowerSGD, of full rank and of rank 1, and exactly."""
    seen = {}
    for name, most in (("full", 5), ("one", 1)):
        model = torch.nn.Linear(7, 5, bias=False)
        torch.nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(1))
        net = torch.nn.parallel.DistributedDataParallel(model)
        # Without the least rate a matrix that is not worth it is not compressed at all; the first two are sent whole.
        state = power.PowerSGDState(
            None, matrix_approximation_rank=most, start_powerSGD_iter=2, min_compression_rate=1e-9
        )
        net.register_comm_hook(state, power.powerSGD_hook)
        sent, exact = [], []
        for step in range(8):
            inputs = torch.from_numpy(vectors(rank, 10 * 7, "float32").reshape(10, 7) + np.float32(step))
            own = torch.autograd.grad(model(inputs).square().mean(), model.weight)[0].reshape(-1).numpy()
            exact.append((yield Mean(own, 1.0)))
            net.zero_grad()
            net(inputs).square().mean().backward()
            sent.append(model.weight.grad.reshape(-1).numpy().copy())
        (residual,) = state.error_dict.values()
        left = yield Mean(residual.numpy(), 1.0)
        seen |= {f"{name}-sent": np.stack(sent), f"{name}-exact": np.stack(exact), f"{name}-left": left}
    return seen


def mail(peer, rank):
    """Tell all others twenty things of one array that changes in between, and take in what they tell."""
    values = np.zeros(peer.learner.manifest.size, peer.learner.dtype)
    for step in range(20):
        for other in peer.others:
            values[:] = 100 * rank + step
            yield Send(other, Message("tick", step, values, weight=step, text=peer.name))
        values[:] = -1
    alive, found = (yield Peers()), []
    while len(found) < 20 * len(peer.others):
        found += yield Wait(20.0)
    late = yield Poll()
    rows = [[m.sender, m.text, m.round, m.weight, set(m.values.tolist()) == {m.values[0]}, m.values[0]] for m in found]
    return {"rows": json.dumps(rows, default=float), "late": len(late), "alive": alive}


def gossip_kill(peer, rank):
    """The last one dies in the middle; the others go on telling each other."""
    other, doomed = peer.names[1 - rank] if rank < 2 else "", peer.names[2]
    found, alive = 0, peer.names
    for step in range(200):
        if rank == 2 and step == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        for to in peer.others:
            yield Send(to, Message("tick", step, np.full(peer.learner.manifest.size, step, peer.learner.dtype)))
        found += sum(m.sender == other for m in (yield Poll()))
        time.sleep(0.002)
    while found < 200:
        found += sum(m.sender == other for m in (yield Wait(20.0)))
    while doomed in alive:
        alive = yield Peers()
    return {"found": found, "alive": alive}


def gossip_stop(peer, rank):
    """The last one stops in its tracks; the others go on, and end without its goodbye."""
    if rank == 2:
        Path(sys.argv[2], "stopped").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    for step in range(100):
        for to in peer.others:
            yield Send(to, Message("tick", step, np.full(peer.learner.manifest.size, step, peer.learner.dtype)))
    found = 0
    while found < 100:
        found += sum(m.sender == peer.names[1 - rank] for m in (yield Wait(20.0)))
    return {"found": found}


def collective_kill(peer, rank):
    """The last one dies after three means."""
    for step in range(10):
        if rank == len(peer.names) - 1 and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Mean(np.ones(1000, np.float32), 1.0)


def late(peer, rank):
    """The last one does not come to the second mean in time."""
    yield Mean(np.ones(10, np.float32), 1.0)
    if rank == len(peer.names) - 1:
        time.sleep(peer.patience + 3)
    yield Mean(np.ones(10, np.float32), 1.0)


def early(peer, rank):
    """The first one ends before the others ask for a mean."""
    if rank > 0:
        yield Mean(np.ones(10, np.float32), 1.0)


def quick(peer, rank):
    """The first one has said what it has to say, and ends; the others read it later, and answer nobody."""
    if rank == 0:
        for other in peer.others:
            for step in range(30):
                yield Send(other, Message("tick", step))
        return {}
    time.sleep(0.5)
    found = []
    while len(found) < 30:
        found += yield Wait(20.0)
    yield Send(peer.names[0], Message("late"))
    return {"rounds": [message.round for message in found]}


def main():
    scenarios, folder, names = sys.argv[1].split(","), Path(sys.argv[2]), tuple(sys.argv[3].split(","))
    options = torchrun.Options(names, **json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}"))
    for scenario in scenarios:
        name, _, collective = scenario.partition(":")
        chosen = replace(options, collective=collective or "ring")
        found = protocols(chosen) if name == "protocols" else seen(name, chosen)
        np.savez(folder / f"{scenario}-{me(names)}.npz", **found)


def me(names):
    return sorted(names)[int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))]


def seen(scenario, options):
    """Do one thing with all others; what came of it, or the error."""
    refused, began = [], time.monotonic()
    try:
        with torchrun.joined(options) as group:
            weights = dict.fromkeys(options.names, 1.0)
            peer = Peer(group.name, weights, Quadratic(np.ones(70), dtype=np.float32), 1, patience=options.patience)
            peer.refused = lambda *two: refused.append(two)
            steps = malformed(peer, group) if scenario == "malformed" else globals()[scenario](peer, group.rank)
            found = {**(group.run(peer, steps) or {}), "run": group.run_name}
            began = time.monotonic()
    except PeersError as error:
        return {"error": str(error), "seconds": time.monotonic() - began}
    parting = time.monotonic() - began
    return {**found, "refused": refused, "traffic": json.dumps(group.traffic.as_json()), "parting": parting}


def protocols(options):
    """One protocol after the other; where each led."""
    found = {}
    for name, protocol in alike.PROTOCOLS.items():
        with torchrun.joined(options) as group:
            peer = alike.peer(group.names, group.rank, options.patience)
            group.run(peer, protocol(peer))
            found[name] = peer.learner.vector()
    return found


def malformed(peer, group):
    """The first one sends what is no message, and one of another run, before a sound one."""
    if group.rank == 0:
        group._links.put(peer.names[1], b"no message", 0)
        group.run_name, true = "another", group.run_name
        yield Send(peer.names[1], Message("tick", 1, np.ones(70, np.float32)))
        group.run_name = true
        yield Send(peer.names[1], Message("tick", 2, np.ones(70, np.float32)))
    found = []
    while group.rank == 1 and not found:
        found = yield Wait(20.0)
    return {"rounds": [message.round for message in found]}


if __name__ == "__main__":
    main()
