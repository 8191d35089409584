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
from computation.training import head, inference

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


def _heads():
    """A head of three tissues in nothing, and the same with the noise of raw air; both in 0..1."""
    away = np.sqrt(sum((axis - 20) ** 2 for axis in np.indices((40, 40, 40))))
    tissue = np.select([away < 5, away < 8, away < 11], [1.0, 0.7, 0.4], 0.0)
    noise = 0.02 * np.random.default_rng(0).random(tissue.shape) + 0.001
    return tissue.astype(np.float32), np.where(tissue > 0, tissue, noise).astype(np.float32)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_scan_in_much_air_is_labelled_as_the_scan_alone(norm, raw):
    model = _model(dataclasses.replace(SMALL, norm=norm), torch.float32)
    with torch.no_grad():
        # A network that calls air tissue, as one that has never seen any does.
        model.head.bias.copy_(torch.tensor([-99.0, 0.0, 0.0]))
    image = _heads()[raw]
    # Blocks are counted from the corner of what is not 0.
    pads = [(16, 30), (8, 25), (40, 3)] if raw else [(17, 30), (9, 25), (41, 3)]
    air = np.random.default_rng(1).random([a + b + n for n, (a, b) in zip(image.shape, pads, strict=True)])
    padded = (0.02 * air + 0.001 if raw else 0 * air).astype(np.float32)
    inner = tuple(slice(a, a + n) for n, (a, _) in zip(image.shape, pads, strict=True))
    padded[inner] = image
    alone, wide = (inference.segment(model, one, tile=(16, 16, 16)) for one in (image, padded))
    box = head.box_of(padded)
    assert [side.stop - side.start for side in box] == [side.stop - side.start for side in head.box_of(image)]
    assert np.array_equal(wide[inner], alone)
    outside = np.ones(wide.shape, bool)
    outside[box] = False
    assert not wide[outside].any()
    assert wide[box].all()


def test_the_background_is_certain_outside_the_box():
    image = np.zeros((40, 40, 40), np.float32)
    image[15:25, 15:25, 15:25] = np.random.default_rng(0).random((10, 10, 10)) + 0.5
    shares = inference.probabilities(_model(), image)
    assert shares[0, :11].eq(1).all()
    assert shares[1:, :11].eq(0).all()
    assert shares[0, 11:29, 11:29, 11:29].lt(1).all()
    torch.testing.assert_close(shares.sum(0), torch.ones(40, 40, 40))


def test_a_constant_tile_is_background(monkeypatch):
    model, image = _model(), np.zeros((60, 12, 12), np.float32)
    image[:12], image[48:] = (np.random.default_rng(0).random((12, 12, 12)) + 0.5 for _ in range(2))
    plain, seen = inference._forward, []
    monkeypatch.setattr(inference, "_forward", lambda *call: seen.append(call[1]) or plain(*call))
    shares = inference.probabilities(model, image, tile=(12, 12, 12), margin=0)
    assert len(seen) == 2
    assert shares[0, 12:48].eq(1).all()
    assert inference.segment(model, np.full((9, 9, 9), 0.5, np.float32)).max() == 0
    assert len(seen) == 2


def test_a_network_that_learnt_from_whole_volumes_still_gets_them():
    model = _model(dataclasses.replace(SMALL, norm="group"))
    image = np.zeros((40, 40, 40), np.float32)
    image[15:25, 15:25, 15:25] = np.random.default_rng(0).random((10, 10, 10)) + 0.5
    with torch.no_grad():
        wanted = model(torch.from_numpy(image).double()[None, None])[0].softmax(0).float()
    shares = inference.probabilities(model, image)
    torch.testing.assert_close(shares[:, 11:29, 11:29, 11:29], wanted[:, 11:29, 11:29, 11:29])
    assert shares[0, :11].eq(1).all()


def test_a_box_smaller_than_a_tile_is_seen_with_the_air_that_its_sub_volumes_had():
    model = _model(dataclasses.replace(SMALL, norm="group"))
    image = np.zeros((40, 40, 19), np.float32)
    image[15:25, :10, 3:13] = np.random.default_rng(0).random((10, 10, 10)) + 0.5
    with torch.no_grad():
        # As a sub-volume of 24 voxels is cut: the box is 18 x 14 x 17 voxels, at two of the image's borders.
        part = torch.from_numpy(image[8:32, :24]).double()[None, None]
        wanted = model(part)[0].softmax(0).float()
    shares = inference.probabilities(model, image, tile=(24, 24, 24))
    torch.testing.assert_close(shares[:, 11:29, :14, :17], wanted[:, 3:21, :14, :17])
    assert shares[0, 11:29, :14, :17].lt(1).all()
    outside = torch.ones(image.shape, dtype=torch.bool)
    outside[11:29, :14, :17] = False
    assert shares[0][outside].eq(1).all()


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 20), st.data())
def test_what_is_shown_holds_the_box_its_margin_and_a_tile(length, least, margin, data):
    start = data.draw(st.integers(0, length - 1))
    side = slice(start, data.draw(st.integers(start + 1, length)))
    seen = inference._longer(side, length, least, margin)
    first, last = max(0, side.start - margin), min(length, side.stop + margin)
    assert 0 <= seen.start <= first < last <= seen.stop <= length
    assert seen.stop - seen.start == max(last - first, min(least, length))
    if seen.start > 0 and seen.stop < length:
        # What was added is as long on either side.
        assert 0 <= (seen.stop - last) - (first - seen.start) <= 1


def test_tiles_reach_beyond_the_box_by_their_margin(monkeypatch):
    image = np.zeros((60, 60, 60), np.float32)
    image[20:40, 24:36, 24:36] = np.random.default_rng(0).random((20, 12, 12)) + 0.5
    plain, seen = inference._forward, []
    monkeypatch.setattr(inference, "_forward", lambda *call: seen.append(call[1]) or plain(*call))
    shares = inference.probabilities(_model(), image, tile=(24, 24, 24))
    # The box has 28 x 20 x 20 voxels, the margin 3, and a tile is 24 voxels long.
    assert [part.shape for part in seen] == [(24, 24, 24)] * 8
    assert np.array_equal(seen[0], image[13:37, 17:41, 17:41])
    assert np.array_equal(seen[-1], image[23:47, 19:43, 19:43])
    assert shares[0, :16].eq(1).all()
    assert shares[0, 16:44, 20:40, 20:40].lt(1).all()


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
