"""A network as a flat vector: order, policies, round trips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ModelError
from computation.model import vector
from computation.model.architecture import named
from computation.model.network import build


def _model(norm="batch", dtype=torch.float32, seed=0):
    return build(named("meshnet-10x5", classes=3, norm=norm), seed, dtype)


def test_parameters_come_first_then_synced_statistics():
    model = _model()
    sync, local = vector.manifest(model, "sync"), vector.manifest(model, "local")
    assert local.size == 5_688
    # 9 layers, mean and variance of 5 channels each
    assert sync.size == 5_688 + 90
    assert sync.entries[: len(local.entries)] == local.entries
    assert {name.rsplit(".", 1)[1] for name, _ in sync.entries[len(local.entries) :]} == {"running_mean", "running_var"}
    assert vector.manifest(model, "frozen") == local


@pytest.mark.parametrize("norm", ["group", "none"])
def test_policy_is_moot_without_batch_norm(norm):
    model = _model(norm)
    assert vector.manifest(model, "sync") == vector.manifest(model, "local")


def test_unknown_policy_is_refused():
    with pytest.raises(ModelError, match="wanted one of sync, local, frozen"):
        vector.manifest(_model(), "magic")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gather_follows_the_manifest(dtype):
    model = _model(dtype=dtype)
    manifest = vector.manifest(model, "sync")
    values = vector.gather(model, manifest)
    state = model.state_dict()
    assert values.dtype == state["head.weight"].numpy().dtype
    for name, place in manifest.slices.items():
        assert np.array_equal(values[place], state[name].numpy().ravel())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["sync", "local"]))
def test_scatter_then_gather_is_the_identity(seed, policy):
    model = _model()
    manifest = vector.manifest(model, policy)
    values = np.abs(np.random.default_rng(seed).normal(size=manifest.size)).astype(np.float32)
    vector.scatter(model, manifest, values)
    assert np.array_equal(vector.gather(model, manifest), values)


def test_local_policy_leaves_statistics_alone():
    model, other = _model(seed=0), _model(seed=1)
    model.layers[0].norm.running_mean.fill_(3)
    vector.scatter(model, vector.manifest(model, "local"), vector.gather(other, vector.manifest(other, "local")))
    assert float(model.layers[0].norm.running_mean[0]) == 3


def test_counter_never_travels():
    model = _model()
    assert "layers.0.norm.num_batches_tracked" in dict(model.named_buffers())
    assert not any("num_batches" in name for name, _ in vector.manifest(model, "sync").entries)


def test_gathered_vector_is_a_snapshot():
    model = _model()
    manifest = vector.manifest(model, "sync")
    before = vector.gather(model, manifest)
    kept = before.copy()
    with torch.no_grad():
        model.head.weight.add_(1)
    assert np.array_equal(before, kept)
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 0


def test_gradient_is_that_of_autograd():
    model = _model("group")
    model(torch.ones(1, 1, 4, 4, 4))[:, 0].sum().backward()
    manifest = vector.parameters(model)
    values = vector.gradient(model)
    for name, parameter in model.named_parameters():
        assert np.array_equal(values[manifest.slices[name]], parameter.grad.numpy().ravel())


def test_missing_gradient_counts_as_zero():
    assert not vector.gradient(_model()).any()


def test_wrong_length_and_negative_variance_are_refused_before_anything_changes():
    model = _model()
    manifest = vector.manifest(model, "sync")
    before = vector.gather(model, manifest)
    with pytest.raises(ModelError, match=r"holds 3 values; wanted 5778"):
        vector.scatter(model, manifest, np.zeros(3, np.float32))
    broken = np.ones(manifest.size, np.float32)
    broken[manifest.slices["layers.3.norm.running_var"]] = -1e-9
    with pytest.raises(ModelError, match="variance"):
        vector.scatter(model, manifest, broken)
    assert np.array_equal(vector.gather(model, manifest), before)


def test_any_network_is_a_vector():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).double()
    model.register_buffer("table", torch.ones(7, dtype=torch.float64), persistent=False)
    model[0].bias.requires_grad_(False)
    assert [name for name, _ in vector.statistics(model).entries] == ["1.running_mean", "1.running_var"]
    vector.load_gradient(model, np.arange(15.0))
    assert model[0].bias.grad is None
    wanted = np.where((np.arange(15) >= 6) & (np.arange(15) < 9), 0, np.arange(15.0))
    assert np.array_equal(vector.gradient(model), wanted)
