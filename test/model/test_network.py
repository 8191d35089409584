"""The network against what was published: parameter counts, receptive fields, initialisation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from computation.model.architecture import Architecture, named
from computation.model.network import MeshNet, _keep, build, parameter_count, receptive_field
from computation.settings import MODELS

# Parameters with three classes, convolution bias and affine batch normalisation; the 10-layer and 8-layer counts agree
# with the sizes of released weight files, those of the stroke nets (two classes) with arXiv 2503.05531, table 1.
PUBLISHED = [
    ("meshnet-10x5", 3, 5_688),
    ("meshnet-10x8", 3, 14_283),
    ("meshnet-10x16", 3, 56_211),
    ("meshnet-10x21", 3, 96_456),
    ("meshnet-10x30", 3, 196_113),
    ("meshnet-8x21", 3, 72_516),
    ("meshnet-11x5", 2, 5_682),
    ("meshnet-11x16", 2, 56_194),
    ("meshnet-11x26", 2, 147_474),
]


@pytest.mark.parametrize(("name", "classes", "count"), PUBLISHED)
def test_published_parameter_count(name, classes, count):
    assert parameter_count(build(named(name, classes=classes), 0)) == count


def test_group_norm_has_no_convolution_bias():
    assert parameter_count(build(named("meshnet-10x8", classes=3, norm="group"), 0)) == 14_211


def test_no_norm_has_the_folded_count():
    # brainchop ships this network with its batch normalisation folded into the bias: 5,598 values.
    assert parameter_count(build(named("meshnet-10x5", classes=3, norm="none"), 0)) == 5_598


@pytest.mark.parametrize(("name", "field"), [("meshnet-10x5", 93), ("meshnet-8x21", 37), ("meshnet-11x5", 123)])
def test_published_receptive_field(name, field):
    assert receptive_field(named(name, classes=2)) == field


@pytest.mark.parametrize("dilations", [(1, 1, 1, 2, 4, 8, 1), (1, 2, 4, 8, 16, 8, 4, 2, 1)])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_receptive_field_measured_by_gradient(dilations, norm):
    shape = Architecture("probe", 1, dilations, 2, norm, "elu", 0.0)
    # The dependence is the same along each axis; a thin volume keeps the probe quick.
    model = build(shape, 0, torch.float64).eval()
    for layer in model.layers:
        torch.nn.init.ones_(layer.conv.weight)
    length = receptive_field(shape) + 8
    volume = torch.zeros(1, 1, length, 1, 1, dtype=torch.float64, requires_grad=True)
    model(volume)[0, 0, length // 2, 0, 0].backward()
    reached = volume.grad.flatten().nonzero().flatten()
    assert int(reached.max() - reached.min()) + 1 == receptive_field(shape)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_shape_stays(name, norm):
    model = build(named(name, classes=4, norm=norm), 0)
    assert model(torch.zeros(2, 1, 5, 6, 7)).shape == (2, 4, 5, 6, 7)


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_forward_equals_plain_pytorch(activation):
    """The network in its own layout equals a chain of PyTorch's functions in the default one."""
    model = build(named("meshnet-8x21", classes=3, activation=activation, dropout=0.0), 3)
    volume = torch.randn(2, 1, 9, 8, 10, generator=torch.Generator().manual_seed(0))
    expected = volume
    for layer in model.layers:
        expected = F.conv3d(
            expected, layer.conv.weight, layer.conv.bias, padding=layer.conv.dilation, dilation=layer.conv.dilation
        )
        expected = F.batch_norm(expected, None, None, layer.norm.weight, layer.norm.bias, training=True)
        expected = getattr(F, activation)(expected)
    expected = F.conv3d(expected, model.head.weight, model.head.bias)
    torch.testing.assert_close(model(volume).contiguous(), expected, rtol=1e-4, atol=1e-4)


def test_group_norm_has_a_group_for_each_channel():
    model = build(named("meshnet-10x5", classes=3, norm="group"), 0)
    volume = torch.randn(1, 5, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.layers[0].norm(volume), F.instance_norm(volume), rtol=1e-5, atol=1e-5)


def test_initialisation_is_kaiming_fan_out():
    model = build(named("meshnet-10x30", classes=3), 0)
    for layer in model.layers[1:]:
        assert float(layer.conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (30 * 27)), rel=0.02)
        assert not layer.conv.bias.any()


def test_seed_decides_the_weights_and_nothing_else_moves():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two, other = (build(named("meshnet-10x5", classes=3), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_precisions_start_from_the_same_numbers():
    narrow, wide = (build(named("meshnet-10x5", classes=3), 1, dtype) for dtype in (torch.float32, torch.float64))
    for one, other in zip(narrow.parameters(), wide.parameters(), strict=True):
        assert torch.equal(one, other.float())


def test_frozen_statistics_stay_and_are_used():
    model = build(named("meshnet-10x5", classes=3), 0)
    model.freeze_statistics()
    volume = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    before = [buffer.clone() for buffer in model.buffers()]
    training = model.train()(volume)
    assert all(torch.equal(one, other) for one, other in zip(model.buffers(), before, strict=True))
    assert torch.equal(training, model.eval()(volume))


def test_batch_statistics_move_once_in_training_and_never_in_evaluation():
    model = build(named("meshnet-10x5", classes=3), 0)
    volume = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    first = model.layers[0]
    model.train()(volume)
    mean = first.conv(volume).mean((0, 2, 3, 4))
    torch.testing.assert_close(first.norm.running_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    before = first.norm.running_mean.clone()
    model.eval()(volume)
    assert torch.equal(first.norm.running_mean, before)


def test_dropout_is_seeded_scaled_and_off_in_evaluation():
    model = build(Architecture("probe", 64, (1,), 2, "none", "relu", 0.25), 0)
    dropout = model.layers[0].dropout
    volume = torch.ones(50, 64, 1, 1, 1)

    def draw(seed):
        model.seed_dropout(seed)
        return dropout(volume)

    state = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert set(np.unique(draw(1).numpy())) == {0, np.float32(1 / 0.75)}
    assert float((draw(1) == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()
    assert torch.equal(dropout(volume), volume)


@pytest.mark.parametrize(("norm", "samples"), [("group", 1), ("group", 2), ("batch", 1), ("batch", 2)])
def test_dropping_in_the_weights_equals_dropping_channels_layer_by_layer(norm, samples):
    model = build(named("meshnet-10x5", classes=3, norm=norm, activation="gelu", dropout=0.4), 1)
    stream = torch.Generator().manual_seed(0)
    volume, probe = (torch.randn(samples, channels, 9, 8, 10, generator=stream) for channels in (1, 3))

    def learn(forward):
        model.seed_dropout(4)
        model.zero_grad()
        scores = forward(volume)
        (scores * probe).sum().backward()
        return [scores.detach(), *(parameter.grad for parameter in model.parameters())]

    for found, wanted in zip(learn(model), learn(torch.nn.Sequential(*model.layers, model.head)), strict=True):
        torch.testing.assert_close(found.contiguous(), wanted.contiguous(), rtol=1e-3, atol=1e-3)


def test_dropout_streams_differ_between_layers():
    model = build(Architecture("probe", 64, (1, 1), 2, "none", "relu", 0.5), 0)
    model.seed_dropout(7)
    volume = torch.ones(1, 64, 1, 1, 1)
    assert not torch.equal(model.layers[0].dropout(volume), model.layers[1].dropout(volume))


def test_untouched_network_is_finite():
    assert MeshNet(named("meshnet-10x5", classes=3))(torch.ones(1, 1, 4, 4, 4)).abs().sum() == 0


@pytest.mark.parametrize(("name", "keep"), [("meshnet-10x5", 2), ("meshnet-10x8", 2), ("meshnet-10x16", 2)])
def test_a_full_volume_step_stores_only_some_layers(name, keep):
    shape = named(name, classes=3)
    assert _keep(torch.empty(1, 1, 256, 256, 256, device="meta"), shape) == keep
    assert _keep(torch.empty(1, 1, 96, 96, 96, device="meta"), shape) == 1
