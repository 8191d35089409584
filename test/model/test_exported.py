"""A model's files are read, and its shapes told, without PyTorch: as PyTorch itself has them."""

import dataclasses

import pytest

from computation.model import architecture, exported, shapes, vector
from computation.model.export import Metadata, save_model
from computation.model.exported import Card, identify
from computation.model.network import MeshNet, build


@pytest.mark.parametrize("name", architecture.names())
@pytest.mark.parametrize("norm", architecture.NORMS)
def test_shapes_are_those_of_the_network(name, norm):
    one = architecture.named(name, classes=7, norm=norm, dropout=0.1)
    assert shapes.of(one) == vector.manifest(MeshNet(one), "sync")


@pytest.mark.parametrize("changes", [{"width": 1, "dilations": (1,)}, {"width": 3, "dilations": (2, 1, 5)}])
def test_shapes_of_a_network_of_ones_own(changes):
    one = dataclasses.replace(architecture.named("meshnet-10x5", classes=2, norm="batch"), **changes)
    assert shapes.of(one) == vector.manifest(MeshNet(one), "sync")


def test_values_are_those_that_were_saved(tmp_path):
    model = build(architecture.named("meshnet-10x5", classes=3), 4)
    digest = save_model(tmp_path, model, Metadata(("a", "b", "c")))
    card = Card.parse(exported.read(tmp_path / "model.json", exported.MOST_TEXT))
    values = card.values((tmp_path / card.tensors).read_bytes())
    assert (values == vector.gather(model, card.manifest)).all()
    assert identify(tmp_path / "model.json") == (digest, tmp_path / "model.safetensors")
