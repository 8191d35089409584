"""Ordinary loops made distributed: the same numbers as one loop on all data, and as the protocols themselves."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from computation.errors import PeersError
from computation.strategies.fedavg import FedAvg
from computation.training.faults import NotFiniteError
from peers.batches import Shuffled
from peers.callbacks import Distributed
from peers.engines import virtual
from peers.learners import ModuleLearner, whole
from peers.peer import Peer
from peers.protocols.centred import Centred
from peers.protocols.gossip import Gossip
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum
from peers.protocols.ring_broadcast import RingBroadcast
from test.peers.loops import together

LOSS = nn.functional.cross_entropy


def _network(seed, norm=False):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 6), nn.BatchNorm1d(6) if norm else nn.Identity(), nn.Tanh(), nn.Linear(6, 3)]
        return nn.Sequential(*layers).double()


def _data(samples, seed=0):
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 4, generator=stream, dtype=torch.float64)
    return inputs, torch.randint(0, 3, (samples,), generator=stream)


def _adam(model):
    return torch.optim.Adam(model.parameters(), 0.01)


def _loop(model, batches, *, epochs=1, metrics=None, **options):
    """The loop of the module's docstring."""

    def loop(group):
        optimizer = _adam(model)
        distributed = Distributed(model, optimizer, group, **options)
        distributed.on_train_begin()
        told = []
        for epoch in range(1, epochs + 1):
            for inputs, targets in batches(epoch):
                optimizer.zero_grad()
                outputs = model(inputs)
                loss = LOSS(outputs, targets)
                loss.backward()
                distributed.on_batch_end(loss, len(targets))
            told.append(distributed.on_epoch_end(**(metrics or {})))
        distributed.on_train_end()
        return told, distributed.drift

    return loop


def _flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


def test_loops_on_equal_shards_are_one_loop_on_the_joined_batches():
    inputs, targets = _data(36)
    models = {f"p{n}": _network(n) for n in range(3)}

    def shard(place):
        return lambda epoch: [(inputs[k + place : k + 12 : 3], targets[k + place : k + 12 : 3]) for k in (0, 12, 24)]

    outcome = together({name: _loop(model, shard(n), epochs=2) for n, (name, model) in enumerate(models.items())})
    alone = _network(0)
    optimizer, losses = _adam(alone), []
    for _ in range(2):
        for k in (0, 12, 24):
            optimizer.zero_grad()
            loss = LOSS(alone(inputs[k : k + 12]), targets[k : k + 12])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    for model in models.values():
        np.testing.assert_allclose(_flat(model), _flat(alone), rtol=0, atol=1e-12)
    assert len({_flat(model).tobytes() for model in models.values()}) == 1
    for told, _ in outcome.values.values():
        assert [one["loss"] for one in told] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], abs=1e-12)


@pytest.mark.parametrize(
    "protocol",
    [Mixing("doubly", "ring"), PushSum("exponential"), Centred(FedAvg()), RingBroadcast(3)],
    ids=lambda one: one.name,
)
def test_a_loop_under_a_protocol_is_that_protocol(protocol):
    names = [f"p{n}" for n in range(4)]
    batches = {name: Shuffled(TensorDataset(*_data(20, seed)), 6, name=name) for seed, name in enumerate(names)}
    models = {name: _network(5, norm=True) for name in names}
    options = {"protocol": protocol, "policy": "local"}
    together({name: _loop(models[name], batches[name], epochs=2, **options) for name in names})

    learners = {}
    for name in names:
        model = _network(5, norm=True)
        # A batch is a round of the callback's, so the learner gets them one by one.
        drawn = [batch for epoch in (1, 2) for batch in batches[name](epoch)]
        one = lambda round, drawn=drawn: [drawn[round - 1]]  # noqa: E731
        learners[name] = ModuleLearner(model, _adam(model), LOSS, one, name=name, policy="local")

    def start(name):
        peer = Peer(name, dict.fromkeys(names, 1.0), learners[name], 8)
        return lambda: (peer, protocol(peer))

    virtual.run({name: start(name) for name in names})
    if protocol.common:
        for name in names:
            assert np.array_equal(_flat(models[name]), learners[name].vector())
    else:
        mean = np.mean([whole(learner) for learner in learners.values()], 0)
        for name in names:
            np.testing.assert_allclose(_flat(models[name]), mean[: learners[name].manifest.size], rtol=0, atol=1e-14)


def test_loops_that_gossip_end_with_one_model():
    models = {f"p{n}": _network(n) for n in range(3)}
    loops = {}
    for seed, (name, model) in enumerate(models.items()):
        batches = Shuffled(TensorDataset(*_data(12, seed)), 3, name=name)
        loops[name] = _loop(model, batches, epochs=2, protocol=Gossip(0.5))
    together(loops)
    assert len({_flat(model).tobytes() for model in models.values()}) == 1


def test_local_statistics_are_the_first_peers_after_an_epoch_and_the_drift_is_told():
    models = {name: _network(seed, norm=True) for seed, name in enumerate("ab")}
    data = {name: _data(8, seed) for seed, name in enumerate("ab")}
    loops = {name: _loop(models[name], lambda epoch, name=name: [data[name]], policy="local") for name in "ab"}
    outcome = together(loops)
    assert torch.equal(models["a"][1].running_mean, models["b"][1].running_mean)
    with torch.no_grad():
        hidden = _network(0)[0](data["a"][0])
    np.testing.assert_allclose(models["a"][1].running_mean, 0.1 * hidden.mean(0), rtol=0, atol=1e-14)
    assert outcome.values["a"][1] == 0
    assert outcome.values["b"][1] > 0.01


def test_metrics_pool_by_samples():
    data = {"a": _data(2), "b": _data(6)}
    loops = {
        name: _loop(_network(0), lambda epoch, name=name: [data[name]], metrics={"share": float(name == "a")})
        for name in data
    }
    told = [told[0] for told, _ in together(loops).values.values()]
    assert told[0] == told[1]
    assert told[0]["share"] == 0.25
    losses = {name: LOSS(_network(0)(inputs), targets).item() for name, (inputs, targets) in data.items()}
    assert told[0]["loss"] == pytest.approx((2 * losses["a"] + 6 * losses["b"]) / 8, abs=1e-14)


@pytest.mark.parametrize("poisoned", ["loss", "gradient"])
def test_what_is_not_finite_is_refused(poisoned):
    inputs, targets = _data(4)

    def loop(group):
        model = _network(0)
        optimizer = _adam(model)
        distributed = Distributed(model, optimizer, group)
        loss = LOSS(model(inputs), targets)
        loss.backward()
        model[0].weight.grad[0, 0] = math.nan if poisoned == "gradient" else 0
        distributed.on_batch_end(math.inf if poisoned == "loss" else loss, 4)

    with pytest.raises(NotFiniteError, match="not finite"):
        together({"a": loop})


def test_an_epoch_without_a_batch_is_refused():
    with pytest.raises(PeersError, match="no peer had a batch"):
        together({name: _loop(_network(0), lambda epoch: []) for name in "ab"})
