"""Any torch module as a learner: against plain PyTorch by hand, under both strategies, and after a restart."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from computation.errors import ModelError, PeersError, ResumeError
from computation.model.architecture import named
from computation.settings import Settings
from computation.strategies import Contribution, FedAvg, GradientMean
from computation.strategies.fedprox import FedProx
from computation.training import checkpoint
from computation.training.faults import NotFiniteError
from computation.training.learner import Learner
from peers.batches import Shuffled
from peers.learners import ModuleLearner, take_whole, whole, whole_manifest

SGD = {"cls": torch.optim.SGD, "lr": 0.1}
MOMENTUM = {"cls": torch.optim.SGD, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
ADAM = {"cls": torch.optim.Adam, "lr": 0.01}
AMSGRAD = {"cls": torch.optim.AdamW, "lr": 0.01, "amsgrad": True}
EACH = pytest.mark.parametrize("chosen", [SGD, MOMENTUM, ADAM, AMSGRAD], ids=["sgd", "momentum", "adam", "amsgrad"])


def _network(seed=0, norm=False, drop=0.0, dtype=torch.float64):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 6), nn.BatchNorm1d(6) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(drop)]
        return nn.Sequential(*layers, nn.Linear(6, 3)).to(dtype)


def _data(samples, seed=0, dtype=torch.float64):
    stream = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 4, generator=stream, dtype=dtype)
    return inputs, torch.randint(0, 3, (samples,), generator=stream)


def _optimiser(model, chosen):
    return chosen["cls"](model.parameters(), **{key: value for key, value in chosen.items() if key != "cls"})


def _learner(data, chosen=SGD, *, size=0, name="a", policy="sync", steps=0, **network):
    model = _network(**network)
    if not callable(data):
        data = Shuffled(TensorDataset(*data), size or max(len(data[0]), 1), name=name, steps=steps)
    loss = nn.functional.cross_entropy
    return ModuleLearner(model, _optimiser(model, chosen), loss, data, name=name, policy=policy)


def _round(strategy, learners, round, weights=None):
    """One round with every learner of positive weight in it."""
    weights = weights or dict.fromkeys(learners, 1.0)
    offers = []
    for name, learner in learners.items():
        if weights[name]:
            values, loss, _ = strategy.contribute(learner, round)
            offers.append(Contribution(name, round, learner.digest(), weights[name], loss, values))
    combined = strategy.combine(offers)
    for learner in learners.values():
        strategy.apply(learner, combined)
    assert len({learner.digest() for learner in learners.values()}) == 1
    return combined


def _flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


@EACH
def test_gradient_and_step_are_plain_pytorchs(chosen):
    data = _data(10)
    learner, model = _learner(data, chosen), _network()
    optimiser = _optimiser(model, chosen)
    for round in (1, 2, 3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(data[0]), data[1])
        loss.backward()
        before = learner.digest()
        gradient = learner.gradient(round)
        assert learner.digest() == before
        assert gradient.loss == pytest.approx(loss.item(), abs=1e-12)
        expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).numpy()
        np.testing.assert_allclose(gradient.vector, expected, rtol=0, atol=1e-14)
        optimiser.step()
        learner.apply_gradient(gradient.vector, round)
        np.testing.assert_allclose(learner.vector(), _flat(model), rtol=0, atol=1e-13)


@EACH
def test_local_steps_are_plain_pytorchs(chosen):
    data = _data(10)
    batches = [(data[0][start : start + 4], data[1][start : start + 4]) for start in (0, 4, 8)]
    learner, model = _learner(lambda round: batches, chosen), _network()
    optimiser, losses = _optimiser(model, chosen), []
    for inputs, targets in batches:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimiser.step()
        losses.append(len(targets) * loss.item())
    result = learner.local_steps(1)
    assert np.array_equal(learner.vector(), _flat(model))
    assert (result.batches, result.samples, learner.batches) == (3, 10, 3)
    assert result.loss == pytest.approx(sum(losses) / 10, abs=1e-14)
    assert all(p.grad is None for p in learner.model.parameters())


@EACH
@pytest.mark.parametrize("peers", [2, 4])
def test_gradient_averaging_on_equal_shards_is_one_learner_on_all(chosen, peers):
    """O6."""
    inputs, targets = _data(24)
    shards = {f"p{n}": (inputs[n::peers], targets[n::peers]) for n in range(peers)}
    learners = {name: _learner(shard, chosen, name=name) for name, shard in shards.items()}
    pooled = _learner((inputs, targets), chosen)
    for round in range(1, 6):
        _round(GradientMean(), learners, round)
        pooled.apply_gradient(pooled.gradient(round).vector, round)
    np.testing.assert_allclose(learners["p0"].vector(), pooled.vector(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("peers", [2, 4])
def test_averaging_parameters_each_step_is_averaging_gradients_for_plain_descent_and_not_for_adam(peers):
    """O7."""
    inputs, targets = _data(24)

    def distance(chosen):
        ends = []
        for strategy in (GradientMean(), FedAvg()):
            shards = {f"p{n}": (inputs[n::peers], targets[n::peers]) for n in range(peers)}
            learners = {name: _learner(shard, chosen, name=name) for name, shard in shards.items()}
            for round in range(1, 6):
                _round(strategy, learners, round)
            ends.append(learners["p0"].vector())
        return np.abs(ends[0] - ends[1]).max()

    assert distance(SGD) < 1e-15
    assert distance(ADAM) > 1e-3


def test_federated_averaging_with_one_full_batch_is_a_step_of_the_pooled_loss():
    """O8: E = 1, B = all, C = 1, weights n_k / n."""
    inputs, targets = _data(24)
    cuts = {"a": slice(0, 4), "b": slice(4, 9), "c": slice(9, 24)}
    learners = {name: _learner((inputs[cut], targets[cut]), name=name) for name, cut in cuts.items()}
    pooled = _learner((inputs, targets))
    for round in (1, 2, 3):
        _round(FedAvg(), learners, round, {"a": 4, "b": 5, "c": 15})
        pooled.local_steps(round)
    np.testing.assert_allclose(learners["a"].vector(), pooled.vector(), rtol=0, atol=1e-12)


def test_a_client_without_samples_has_no_effect_and_one_client_is_local_descent():
    """O9."""
    data = _data(12)
    alone = {"a": _learner(data, MOMENTUM, size=5)}
    beside = {"a": _learner(data, MOMENTUM, size=5), "b": _learner(_data(0), MOMENTUM, name="b")}
    local = _learner(data, MOMENTUM, size=5)
    for round in (1, 2, 3):
        _round(FedAvg(), alone, round, {"a": 12})
        _round(FedAvg(), beside, round, {"a": 12, "b": 0})
        local.local_steps(round)
    assert alone["a"].digest() == beside["b"].digest() == local.digest()


@EACH
@pytest.mark.parametrize("policy", ["sync", "local"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restored_learner_goes_on_bit_for_bit(tmp_path, chosen, policy, dtype):
    data = _data(20, dtype=dtype)

    def fresh(seed):
        return _learner(data, chosen, size=8, steps=2, policy=policy, norm=True, drop=0.3, dtype=dtype, seed=seed)

    unbroken, restarted = fresh(0), fresh(1)
    for round in (1, 2, 3):
        unbroken.local_steps(round)
    checkpoint.save(tmp_path, 3, *unbroken.state())
    restarted.load_state(*checkpoint.load(tmp_path, 3))
    assert np.array_equal(whole(restarted), whole(unbroken))
    for learner in (unbroken, restarted):
        learner.local_steps(4)
        learner.apply_gradient(learner.gradient(5).vector, 5)
    assert restarted.digest() == unbroken.digest()
    assert np.array_equal(whole(restarted), whole(unbroken))
    _same(restarted.state(), unbroken.state())


def _same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(one[0][name].tobytes() == other[0][name].tobytes() for name in one[0])


def test_state_of_another_module_is_refused():
    arrays, values = _learner(_data(4), ADAM, norm=True).state()
    with pytest.raises(ResumeError, match="another model"):
        _learner(_data(4), ADAM).load_state(arrays, values)
    with pytest.raises(ResumeError, match="another model"):
        _learner(_data(4), ADAM, norm=True).load_state(arrays, {"digest": values["digest"], "rest": {"dict": 3}})
    with pytest.raises(ResumeError, match="digest"):
        _learner(_data(4), ADAM, norm=True).load_state(arrays, {**values, "digest": "0" * 64})


def test_dropout_is_a_function_of_the_round_and_the_name_alone():
    data = _data(16)
    stream = torch.get_rng_state()
    first, again = (_learner(data, drop=0.5).gradient(3).vector for _ in range(2))
    assert np.array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), stream)
    others = (_learner(data, drop=0.5).gradient(4), _learner(data, drop=0.5, name="b").gradient(3))
    assert not any(np.allclose(first, other.vector) for other in others)


def test_synchronised_statistics_ride_behind_the_parameters():
    learner, reference = _learner(_data(16), norm=True), _network(norm=True)
    before, buffers = learner.vector(), copy.deepcopy(dict(learner.model.named_buffers()))
    gradient = learner.gradient(1)
    assert np.array_equal(learner.vector(), before)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in _floating(learner.model))
    reference(_data(16)[0])
    where = learner.parts["statistics"]
    expected = torch.cat([reference[1].running_mean, reference[1].running_var]).numpy()
    np.testing.assert_allclose(gradient.vector[where], expected, rtol=0, atol=1e-14)
    learner.apply_gradient(gradient.vector, 1)
    assert np.array_equal(learner.vector()[where], gradient.vector[where])


def _floating(model):
    return [(name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point()]


def test_local_statistics_stay_and_move_on():
    learner = _learner(_data(16), norm=True, policy="local")
    assert learner.manifest.size == sum(p.numel() for p in learner.model.parameters())
    learner.gradient(1)
    assert learner.model[1].running_mean.abs().max() > 0
    assert "statistics" not in learner.parts


@pytest.mark.parametrize("policy", ["sync", "local"])
def test_whole_carries_all_statistics_from_one_learner_to_another(policy):
    giver, taker = (_learner(_data(16), norm=True, policy=policy, seed=seed) for seed in (0, 1))
    giver.local_steps(1)
    take_whole(taker, whole(giver))
    state, expected = taker.model.state_dict(), giver.model.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in state if "num_batches" not in name)
    assert whole_manifest(giver).size == whole(giver).size == 51 + 12 + 12


@pytest.mark.parametrize("policy", ["sync", "local", "frozen"])
def test_whole_of_a_meshnet(policy):
    settings = Settings(norm="batch", norm_policy=policy, classes=3)
    architecture = named("meshnet-10x5", classes=3, norm="batch")
    giver, taker = (Learner(architecture, settings, 5) for _ in range(2))
    with torch.no_grad():
        giver.model.layers[0].norm.running_mean.fill_(3)
    giver.load_vector(giver.vector() * np.float32(0.5))
    values = whole(giver)
    take_whole(taker, values)
    assert np.array_equal(whole(taker), values)
    assert whole_manifest(giver).size == values.size == 5_688 + 90
    with pytest.raises(ModelError, match="wanted 5778"):
        take_whole(taker, values[1:])


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
def test_infinite_loss_or_gradient_is_refused_and_the_model_stays(verb):
    inputs, targets = _data(8)
    poison = inputs.clone()
    poison[3, 2] = math.inf
    learner = _learner(lambda round: [(inputs, targets), (poison, targets)], norm=True)
    before = learner.vector()
    with pytest.raises(NotFiniteError, match="loss or gradient"):
        getattr(learner, verb)(1)
    assert np.array_equal(learner.vector(), before)


def test_infinite_steps_are_refused_and_the_model_stays():
    learner = _learner(_data(8), {"cls": torch.optim.SGD, "lr": 1e300})
    before, gradient = learner.vector(), np.full(learner.manifest.size, 1e300)
    with pytest.raises(NotFiniteError, match="made the model infinite"):
        learner.apply_gradient(gradient, 1)
    with pytest.raises(NotFiniteError, match="gradient of round 2"):
        learner.apply_gradient(gradient * math.nan, 2)
    assert np.array_equal(learner.vector(), before)


def test_frozen_parameters_stay():
    learner = _learner(_data(8), MOMENTUM)
    learner.model[0].weight.requires_grad_(False)
    frozen = learner.model[0].weight.detach().clone()
    learner.apply_gradient(learner.gradient(1).vector, 1)
    learner.apply_gradient(np.ones(learner.manifest.size), 2)
    assert torch.equal(learner.model[0].weight, frozen)


def test_what_cannot_be_a_learner_is_refused():
    model = _network()
    loss = nn.functional.cross_entropy
    with pytest.raises(ModelError, match="wanted one of sync, local"):
        _learner(_data(4), policy="magic")
    with pytest.raises(ModelError, match="steps 4 tensors"):
        ModuleLearner(model, _optimiser(_network(), SGD), loss, lambda round: ())
    with pytest.raises(ModelError, match="float16; wanted float32 or float64"):
        model = _network(dtype=torch.float16)
        ModuleLearner(model, _optimiser(model, SGD), loss, lambda round: ())
    model[0].float()
    with pytest.raises(ModelError, match=r"float16, torch\.float32"):
        ModuleLearner(model, _optimiser(model, SGD), loss, lambda round: ())


def test_foreign_vectors_and_empty_rounds_are_refused():
    learner = _learner(_data(0))
    with pytest.raises(ModelError, match="is float32; wanted float64"):
        learner.load_vector(learner.vector().astype(np.float32))
    with pytest.raises(ModelError, match="holds 50 values; wanted 51"):
        learner.load_vector(learner.vector()[1:])
    with pytest.raises(PeersError, match="round 1 has nothing"):
        learner.gradient(1)
    with pytest.raises(PeersError, match="round 2 has nothing"):
        learner.local_steps(2)


@EACH
def test_corrected_local_steps_are_plain_pytorchs_with_the_proximal_term_in_the_loss(chosen):
    data = _data(12)
    learner, model = _learner(data, chosen, size=4, steps=3), _network()
    optimiser, start = _optimiser(model, chosen), [p.detach().clone() for p in model.parameters()]
    ours, _, _ = FedProx(0.3).contribute(learner, 1)
    for inputs, targets in Shuffled(TensorDataset(*data), 4, name="a", steps=3)(1):
        optimiser.zero_grad()
        away = sum(((p - q) ** 2).sum() for p, q in zip(model.parameters(), start, strict=True))
        (nn.functional.cross_entropy(model(inputs), targets) + 0.3 / 2 * away).backward()
        optimiser.step()
    np.testing.assert_allclose(ours, _flat(model), rtol=1e-10, atol=1e-12)
