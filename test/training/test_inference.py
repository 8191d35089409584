"""Whole volumes, tiles and NIfTI."""

import dataclasses

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import DeviceError, ModelError
from computation.model.architecture import Architecture
from computation.model.network import build, receptive_field
from computation.scans.store.records import Native
from computation.settings import Settings
from computation.training import inference

SMALL = Architecture("small", 4, (1, 2, 1), 3, "batch", "elu", 0.0)


def _model(shape=SMALL, dtype=torch.float64):
    model = build(shape, 1, dtype)
    with torch.no_grad():
        model(torch.randn(2, 1, 8, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def _image(shape=(23, 18, 20), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_whole_volume_is_the_networks_softmax():
    model, image = _model(), _image()
    with torch.no_grad():
        expected = model(torch.from_numpy(image).double()[None, None])[0].softmax(0).float()
    result = inference.probabilities(model, image)
    torch.testing.assert_close(result, expected)
    assert np.array_equal(inference.segment(model, image), expected.argmax(0).numpy())


@settings(max_examples=8, deadline=None)
@given(
    shape=st.tuples(*[st.integers(10, 18)] * 3),
    tile=st.integers(9, 20),
    extra=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_tiles_equal_the_whole_volume_where_the_margin_covers_the_receptive_field(shape, tile, extra, seed):
    model, image = _model(), _image(shape, seed)
    margin = receptive_field(SMALL) // 2 + extra
    if tile <= 2 * margin:
        tile = 2 * margin + 1
    tiled = inference.probabilities(model, image, tile=(tile, tile + 1, tile + 2), margin=margin)
    torch.testing.assert_close(tiled, inference.probabilities(model, image), rtol=1e-5, atol=1e-6)


def test_a_small_margin_differs_at_the_seams_only():
    model, image = _model(), _image((40, 12, 12))
    whole = inference.probabilities(model, image)
    tiled = inference.probabilities(model, image, tile=(20, 20, 20), margin=1)
    different = ((tiled - whole).abs().amax((0, 2, 3)) > 1e-5).nonzero().flatten().tolist()
    reach = receptive_field(SMALL) // 2
    # Tiles begin at 0, 18 and 20; what a seam spoils reaches no further than the receptive field.
    assert different
    assert all(min(abs(place - seam) for seam in (0, 18, 20, 38)) <= reach for place in different)
    assert torch.allclose(tiled.sum(0), torch.ones(40, 12, 12), atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 20))
def test_spans_cover_each_axis(length, side, margin):
    if side < length and side <= 2 * margin:
        with pytest.raises(ModelError, match="choose a larger tile"):
            list(inference._spans(length, side, margin))
        return
    seen = np.zeros(length, int)
    for tile, core in inference._spans(length, side, margin):
        assert 0 <= tile.start <= core.start < core.stop <= tile.stop <= length
        assert tile.stop - tile.start == min(side, length)
        assert core.start - tile.start >= margin or tile.start == 0
        assert tile.stop - core.stop >= margin or tile.stop == length
        seen[core] += 1
    assert seen.min() >= 1


def test_the_whole_volume_is_taken_if_it_fits():
    narrow = Architecture("narrow", 5, (1,), 3, "batch", "elu", 0.0)
    wide = Architecture("wide", 30, (1,), 3, "batch", "elu", 0.0)
    assert inference._sizes(narrow, (256, 200, 256))[0] == (256, 256, 256)
    assert inference._sizes(wide, (256, 256, 256))[0] == (192, 192, 192)
    assert inference._sizes(wide, (72, 60, 72)) == [(72, 72, 72), (64, 64, 64)]
    assert inference._sizes(Architecture("huge", 256, (1,), 256, "batch", "elu", 0.0), (512, 512, 512))


def test_tile_that_a_run_calls_for():
    # Measured on the template's subjects at 3 mm, 60 rounds of 48^3, width 8, group norm: mean foreground Dice 0.44 on
    # whole volumes against 0.56 on tiles of the size that was learnt from.
    assert inference.learnt_tile(Settings(patch_size=(48, 48, 32))) == (48, 48, 32)
    assert inference.learnt_tile(Settings(patch_size=(0, 0, 0))) is None
    assert inference.learnt_tile(Settings(patch_size=(48, 48, 48), norm="batch")) is None


def test_a_full_device_gets_smaller_tiles(monkeypatch):
    model, image = _model(dtype=torch.float32), _image((130, 8, 8))
    tried = []
    plain = inference._forward

    def forward(model, part, precision):
        tried.append(part.shape)
        if part.shape[0] > 64:
            raise DeviceError("full")
        return plain(model, part, precision)

    monkeypatch.setattr(inference, "_forward", forward)
    told = []
    assert inference.segment(model, image, told=told.append).shape == image.shape
    assert [shape[0] for shape in tried[:4]] == [130, 128, 96, 64]
    assert [text.split(" voxels")[0] for text in told] == ["tiles of 130", "tiles of 128", "tiles of 96"]
    monkeypatch.setattr(inference, "_SIDES", ())
    with pytest.raises(DeviceError):
        inference.segment(model, image)


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_statistics_stay(training):
    model = _model().train(training)
    before = [buffer.clone() for buffer in model.buffers()]
    inference.segment(model, _image())
    assert model.training is training
    assert all(torch.equal(one, other) for one, other in zip(model.buffers(), before, strict=True))


def test_prediction_of_a_scan(store, trainer):
    model = trainer(store).model
    scan = store.scans("valid")[0]
    labels = inference.predict(model, store, scan)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, inference.segment(model, store.voxels(scan.key)[0]))


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize(("codes", "expected"), [((1, 0), 1), ((0, 3), 3), (None, 2)])
def test_nifti_has_the_scans_own_affine(tmp_path, store, name, codes, expected):
    scan = store.scans()[0]
    if codes:
        native = Native(scan.shape, scan.affine, sform_code=codes[0], qform_code=codes[1])
        scan = dataclasses.replace(scan, native=native)
    labels = np.random.default_rng(0).integers(0, 3, scan.shape).astype(np.uint8)
    inference.save(tmp_path / name, labels, scan)
    image = nibabel.load(tmp_path / name)
    assert np.array_equal(image.affine, np.array(scan.affine))
    np.testing.assert_allclose(image.get_qform(), np.array(scan.affine), atol=1e-5)
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), labels)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (expected, expected)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_sheared_affine_has_no_quaternion(tmp_path, store):
    affine = ((1.0, 0.4, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    scan = dataclasses.replace(store.scans()[0], affine=affine)
    inference.save(tmp_path / "scan.nii", np.zeros(scan.shape, np.uint8), scan)
    image = nibabel.load(tmp_path / "scan.nii")
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    assert int(image.header["qform_code"]) == 0


def test_nifti_is_the_same_to_the_byte(tmp_path, store):
    scan = store.scans()[0]
    blobs = []
    for _ in range(2):
        inference.save(tmp_path / "scan.nii.gz", np.zeros(scan.shape, np.uint8), scan)
        blobs.append((tmp_path / "scan.nii.gz").read_bytes())
    assert blobs[0] == blobs[1]
