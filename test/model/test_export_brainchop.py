"""The brainchop layout: folded weights that another reader of the files turns into the same scores."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from computation.errors import ModelError
from computation.model import export_brainchop
from computation.model.architecture import named
from computation.model.export import Metadata
from computation.model.export_brainchop import apply_brainchop, read_brainchop, save_brainchop, turned
from computation.model.network import build, parameter_count

NAMES = ("background", "white matter", "grey matter")
BRAINCHOP = {"normalisation": "min-max", "spacing": [1.0, 1.0, 1.0], "like": "freesurfer"}


def trained(norm="batch", activation="elu", name="meshnet-10x5", classes=3):
    model = build(named(name, classes=classes, norm=norm, activation=activation), 4)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=stream)
    return model.eval()


def scores(model, volume):
    with torch.inference_mode():
        return model(torch.from_numpy(volume.astype(np.float32))[None, None])[0].numpy()


@pytest.mark.parametrize("norm", ["batch", "none", "group"])
@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_the_files_compute_the_same(tmp_path, norm, activation):
    model = trained(norm, activation)
    apart, cautions = save_brainchop(tmp_path, model, Metadata(NAMES, BRAINCHOP))
    assert apart <= 1e-5
    assert bool(cautions) is (norm == "group")
    volume = np.random.default_rng(0).random((14, 19, 16))
    assert np.allclose(apply_brainchop(*read_brainchop(tmp_path), volume), scores(model, volume), rtol=1e-4, atol=1e-4)


def test_the_layout_is_brainchops(tmp_path):
    model = trained()
    save_brainchop(tmp_path, model, Metadata(NAMES, BRAINCHOP))
    card = json.loads((tmp_path / "model.json").read_text())
    layers = card["modelTopology"]["model_config"]["config"]["layers"]
    assert card["format"] == "layers-model"
    assert [one["class_name"] for one in layers] == ["InputLayer", *["Conv3D", "Activation"] * 9, "Conv3D"]
    assert layers[0]["config"]["batch_input_shape"] == [None, 256, 256, 256, 1]
    assert [one["inbound_nodes"][0][0][0] for one in layers[1:]] == [one["name"] for one in layers[:-1]]
    convolutions = [one["config"] for one in layers if one["class_name"] == "Conv3D"]
    assert [one["dilation_rate"][0] for one in convolutions] == [1, 2, 4, 8, 16, 8, 4, 2, 1, 1]
    assert all(one["use_bias"] and one["padding"] == "same" for one in convolutions)
    # 5,598 is the published size of the folded model, 5,688 the one before folding: 90 numbers of batch-norm affine.
    assert (parameter_count(model), (tmp_path / "group1-shard1of1.bin").stat().st_size // 4) == (5688, 5598)
    (group,) = card["weightsManifest"]
    assert group["weights"][0] == {"name": "conv3d_0/kernel", "shape": [3, 3, 3, 1, 5], "dtype": "float32"}
    assert json.loads((tmp_path / "labels.json").read_text())["1"] == "white matter"
    assert json.loads((tmp_path / "colormap.json").read_text())["labels"] == list(NAMES)


def test_no_class_has_the_colour_of_the_background(tmp_path):
    names = tuple(f"class {index}" for index in range(18))
    save_brainchop(tmp_path, trained(classes=18), Metadata(names, BRAINCHOP))
    colours = json.loads((tmp_path / "colormap.json").read_text())
    seen = list(zip(*(colours[channel] for channel in "RGB"), strict=True))
    assert len(seen) == 18
    assert [index for index, colour in enumerate(seen) if colour == (0, 0, 0)] == [0]
    assert json.loads((tmp_path / "brainchop.json").read_text())["enableQuantileNorm"] is False


def test_a_model_of_ras_scans_is_turned(tmp_path):
    model = trained(activation="gelu")
    how = {"normalisation": "quantile", "spacing": [2.0, 2.0, 2.0], "like": "ras"}
    _, cautions = save_brainchop(tmp_path, model, Metadata(NAMES, how))
    assert len(cautions) == 2
    volume = np.random.default_rng(0).random((14, 19, 16))
    seen = apply_brainchop(*read_brainchop(tmp_path), turned(volume))
    wanted = np.stack([turned(one) for one in scores(model, volume)])
    assert np.allclose(seen, wanted, rtol=1e-4, atol=1e-4)


def test_turning_goes_from_ras_to_lia():
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).random((4, 5, 6))
    lia = nibabel.orientations.axcodes2ornt("LIA")
    assert np.array_equal(turned(volume), nibabel.orientations.apply_orientation(volume, _towards(nibabel, lia)))


def _towards(nibabel, wanted):
    return nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), wanted)


def test_group_norm_is_brainchops_rule_for_names(tmp_path):
    """Its rule: what a convolution named `..._gn` gives is normalised over the volume, without scale and shift."""
    model = trained("group", "gelu")
    save_brainchop(tmp_path, model, Metadata(NAMES, BRAINCHOP))
    layers, weights = read_brainchop(tmp_path)
    names = [one["name"] for one in layers]
    assert names[:5] == ["input", "conv3d_0_gn", "scale_0", "activation_1", "conv3d_2_gn"]
    assert sum(name.endswith("_gn") for name in names) == 9
    assert names[-1] == "output"
    spread, scale = (layers[names.index(name)]["config"] for name in ("conv3d_8_gn", "scale_8"))
    assert (spread["dilation_rate"], spread["use_bias"], spread["activation"]) == ([16] * 3, False, "linear")
    assert (scale["dilation_rate"], scale["use_bias"], scale["kernel_size"]) == ([1] * 3, True, [1, 1, 1])
    assert "conv3d_8_gn/bias" not in weights
    assert np.array_equal(weights["scale_8/kernel"][0, 0, 0].diagonal(), model.layers[4].norm.weight.detach())


def test_group_norm_of_ras_scans_is_turned(tmp_path):
    model = trained("group", "elu")
    save_brainchop(tmp_path, model, Metadata(NAMES, {**BRAINCHOP, "like": "ras"}))
    volume = np.random.default_rng(0).random((14, 19, 16))
    seen = apply_brainchop(*read_brainchop(tmp_path), turned(volume))
    wanted = np.stack([turned(one) for one in scores(model, volume)])
    assert np.allclose(seen, wanted, rtol=1e-4, atol=1e-4)


def test_group_norm_says_which_brainchop_and_which_setting(tmp_path):
    _, whole = save_brainchop(tmp_path, trained("group"), Metadata(NAMES, BRAINCHOP))
    _, tiled = save_brainchop(tmp_path, trained("group"), Metadata(NAMES, {**BRAINCHOP, "tile": [64, 64, 64]}))
    assert len(whole) == 1 and "August 2025" in whole[0] and "norm=batch" in whole[0]
    assert len(tiled) == 2 and "no tiles" in tiled[1] and "norm=batch" in tiled[1]


def test_another_group_norm_is_refused(tmp_path):
    model = trained("group")
    model.layers[3].norm.num_groups = 1
    with pytest.raises(ModelError, match=r"each channel on its own.*norm=batch, or export to ONNX"):
        save_brainchop(tmp_path / "out", model, Metadata(NAMES, BRAINCHOP))
    assert not (tmp_path / "out").exists()


def test_a_fold_that_is_wrong_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        export_brainchop, "_folded", lambda layer: (layer.conv.weight.detach(), layer.conv.bias.detach())
    )
    with pytest.raises(ModelError, match="scores differ"):
        save_brainchop(tmp_path, trained(), Metadata(NAMES, BRAINCHOP))
    assert not (tmp_path / "model.json").exists()


def test_weights_come_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(export_brainchop, "_SHARD", 10_000)
    save_brainchop(tmp_path, trained(), Metadata(NAMES, BRAINCHOP))
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == [f"group1-shard{n}of3.bin" for n in (1, 2, 3)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["model.json", "group1-shard1of1.bin"]), st.integers(0, 5000))
def test_a_damaged_export_is_a_model_error(tmp_path, name, length):
    save_brainchop(tmp_path, trained(), Metadata(NAMES, BRAINCHOP))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError):
        read_brainchop(tmp_path)


def test_brainchop_is_asked_to_crop_as_predict_does(tmp_path):
    for stripped, wanted in ((True, (0, 4)), (False, (0.1, 18)), (None, (0.1, 18))):
        save_brainchop(tmp_path, trained(), Metadata(NAMES, {**BRAINCHOP, "stripped": stripped}))
        entry = json.loads((tmp_path / "brainchop.json").read_text())
        assert (entry["enableCrop"], entry["autoThreshold"], entry["cropPadding"]) == (True, *wanted)
