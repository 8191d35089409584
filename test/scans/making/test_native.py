"""What goes to the conformed grid and back is what came, in its own space and header."""

import json
import struct
import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from computation.errors import ScanError, StoreError
from computation.scans.making import images
from computation.scans.making.conform import Target, conform
from computation.scans.making.ingest import import_table
from computation.scans.making.native import shares_to_native, to_native
from computation.scans.store.opening import open_store
from computation.scans.store.records import Scan

ORIENTATIONS = ["RAS", "LIA", "PSR", "ASL", "SPL"]


def pair(tools, shape, sizes, orientation="RAS", degrees=0.0):
    """An image and its label with a given orientation, spacing and obliquity."""
    image, label = tools.head(shape)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(degrees), -np.sin(degrees)], [np.sin(degrees), np.cos(degrees)]]
    affine = turn @ np.diag([*sizes, 1.0])
    affine[:3, 3] = (-20, 30, 5)
    start = nib.orientations.io_orientation(np.diag([*sizes, 1.0]))
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(orientation))
    turned = [nib.Nifti1Image(one, affine).as_reoriented(change) for one in (image.astype(np.int16), label)]
    # As a header holds it.
    return [nib.Nifti1Image(np.asarray(one.dataobj), one.affine.astype(np.float32)) for one in turned]


def dice(one, other):
    return min(2 * np.sum((one == k) & (other == k)) / (np.sum(one == k) + np.sum(other == k)) for k in (1, 2))


def scan_of(image, found):
    usual = {"key": 1, "subject": "a", "session": "", "split": "test", "dtype": "uint8", "low": 0.0, "high": 1.0}
    return Scan(
        **usual,
        shape=found.image.shape,
        spacing=(1.0,) * 3,
        affine=found.affine,
        labelled=True,
        native=images.native(image),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.sampled_from([0.8, 1.0, 1.3, 2.0])] * 3),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from(["ras", "freesurfer"]),
    st.sampled_from([1.0, 1.7, 2.0]),
)
def test_there_and_back_again_is_exact(tools, orientation, sizes, degrees, like, spacing):
    """To the native space and to the conformed grid again, against the conformed label, however the grids lie."""
    image, label = pair(tools, (32, 28, 30), sizes, orientation, degrees)
    target = Target((spacing,) * 3, (72,) * 3, like)
    found = conform(image, label, target)
    native = to_native(found.label, scan_of(image, found))
    assert native.shape == image.shape
    np.testing.assert_allclose(native.affine, image.affine, atol=1e-5)
    assert (conform(image, native, target).label == found.label).all()


@pytest.mark.parametrize(("sizes", "spacing"), [((1.0, 1.1, 0.9), 1.0), ((1.0, 0.9, 1.1), 2.0), ((2.0, 1.7, 1.9), 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_label_map_of_the_native_grid_agrees_better(tools, sizes, spacing, seed):
    """Labels that were not conformed from native ones, such as a prediction: the ceiling, by counting."""
    image, _ = pair(tools, (16, 18, 14), sizes, "RAS", 0.2)
    target = Target((spacing,) * 3, (30,) * 3, "freesurfer")
    scan = scan_of(image, conform(image, None, target))
    labels = np.zeros(scan.shape, np.uint8)
    labels[3:-3, 3:-3, 3:-3] = np.random.default_rng(seed).integers(0, 4, (24, 24, 24))
    steps = np.linalg.inv(image.affine) @ np.array(scan.affine)
    read = np.indices(scan.shape).reshape(3, -1).T @ steps[:3, :3].T + steps[:3, 3]
    inside, places = ((read >= 0) & (read <= np.array(image.shape) - 1)).all(1), np.floor(read + 0.5).astype(int)
    votes = np.zeros((np.prod(image.shape), 4), int)
    np.add.at(votes, (np.ravel_multi_index(places[inside].T, image.shape), labels.ravel()[inside]), 1)
    again = conform(image, to_native(labels, scan), target).label
    assert np.sum((again == labels).ravel()[inside]) == votes.max(1).sum()


def shares_of(scan, sphere, classes=2):
    """How much of each voxel lies in a sphere, as a model that is sure of itself would say."""
    centre, radius = sphere
    places = nib.affines.apply_affine(np.array(scan.affine), np.moveaxis(np.indices(scan.shape), 0, -1))
    away = np.linalg.norm(places - centre, axis=-1) - radius
    inside = 1 / (1 + np.exp(np.clip(4 * away / scan.spacing[0], -40, 40)))
    return np.stack([1 - inside, *[inside / (classes - 1)] * (classes - 1)]).astype(np.float32)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.0])
def test_probabilities_go_back_nearer_to_the_truth_than_labels(tools, spacing):
    image, _ = pair(tools, (40, 44, 42), (1.0, 1.0, 1.0), "LPS", 0.2)
    found = conform(image, None, Target((spacing,) * 3, (64,) * 3, "freesurfer"))
    scan = replace(scan_of(image, found), spacing=(spacing,) * 3)
    centre = nib.affines.apply_affine(image.affine, [19.3, 21.8, 20.6])
    places = nib.affines.apply_affine(image.affine, np.moveaxis(np.indices(image.shape), 0, -1))
    truth = np.linalg.norm(places - centre, axis=-1) < 12
    shares = shares_of(scan, (centre, 12))

    def score(labels):
        return 2 * np.sum(labels & truth) / (np.sum(labels) + np.sum(truth))

    soft = score(np.asarray(shares_to_native(shares, scan).dataobj) == 1)
    hard = score(np.asarray(to_native(shares.argmax(0).astype(np.uint8), scan).dataobj) == 1)
    assert soft > hard and soft > (0.99 if spacing < 3 else 0.97)


@pytest.mark.parametrize("spacing", [(1.3, 1.2, 1.1), (0.6, 0.8, 0.7)])
@pytest.mark.parametrize("like", ["ras", "freesurfer"])
def test_boxes_change_nothing(tools, spacing, like):
    """Against all classes at once, over the whole grid, in float64."""
    image, _ = pair(tools, (18, 20, 22), (1.0, 1.0, 1.0), "RAS", 0.2)
    scan = scan_of(image, conform(image, None, Target(spacing, (44,) * 3, like)))
    noise = np.random.default_rng(3).normal(size=(5, *scan.shape))
    raw = np.stack([ndimage.gaussian_filter(one, 1.5) for one in noise]) * 30
    raw[0] += np.linalg.norm(np.indices(scan.shape) - np.array(scan.shape).reshape(3, 1, 1, 1) / 2, axis=0) - 8
    shares = (np.exp(raw) / np.exp(raw).sum(0)).astype(np.float32)
    steps = np.linalg.inv(np.array(scan.affine)) @ image.affine
    wanted = np.stack([ndimage.affine_transform(one, steps, output_shape=image.shape, order=1) for one in shares * 1.0])
    found = np.asarray(shares_to_native(shares, scan).dataobj)
    assert set(np.unique(found)) == set(range(5))
    chosen = np.take_along_axis(wanted, found[None].astype(int), 0)[0]
    assert (wanted.max(0) - chosen).max() < 1e-4


def test_labels_at_the_edge_of_the_grid_reach_the_edge(tools):
    image, _ = pair(tools, (20, 20, 20), (1.0, 1.0, 1.0))
    scan = scan_of(image, conform(image, None, Target((2.0,) * 3, None)))
    full = np.ones(scan.shape, np.uint8)
    both = to_native(full, scan), shares_to_native(np.stack([full * 0.0, full]).astype(np.float32), scan)
    for back in both:
        # The grid of 2 mm has its central voxel where that of 1 mm has it, and ends where its own voxels end.
        steps = np.linalg.solve(np.array(scan.affine), image.affine)
        places = np.indices(image.shape).reshape(3, -1).T @ steps[:3, :3].T + steps[:3, 3]
        inside = ((places >= -0.5) & (places < 9.5)).all(1).reshape(image.shape)
        assert (np.asarray(back.dataobj) == inside).all()


def test_memory_does_not_grow_with_the_classes(tools):
    image, _ = pair(tools, (64, 64, 64), (1.0, 1.0, 1.0), "RAS", 0.2)
    scan = scan_of(image, conform(image, None, Target((1.0,) * 3, (64,) * 3, "freesurfer")))
    few, many = (np.full((classes, *scan.shape), 1 / classes, np.float32) for classes in (3, 40))
    peaks = []
    for shares in (few, many):
        tracemalloc.start()
        shares_to_native(shares, scan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 1.2 * 12 * 4 * 64**3


def test_through_a_database_the_header_comes_back(tools):
    folder = tools.folder()
    image, label = pair(tools, (24, 22, 20), (1.0, 1.0, 1.2), "LIA")
    for one in (image, label):
        one.set_sform(one.affine, 2)
        shifted = one.affine.copy()
        shifted[:3, 3] += 9
        one.set_qform(shifted, 1)
        one.header.set_xyzt_units("mm")
    nib.save(image, folder / "a.nii.gz")
    nib.save(label, folder / "b.nii.gz")
    (folder / "t.csv").write_text("subject,image,label\np,a.nii.gz,b.nii.gz", "utf-8")
    summary = import_table(folder / "t.csv", folder / "site.db", spacing=1.0, grid=40)
    assert any("sform and qform disagree by up to 15.6 mm" in text for text in summary.taken[0].warnings)
    with open_store(folder / "site.db") as store:
        (scan,) = store.scans()
        back = to_native(store.read_label(scan, (0, 0, 0), scan.shape), scan)
    nib.save(back, folder / "back.nii.gz")
    found, wanted = nib.load(folder / "back.nii.gz"), nib.load(folder / "b.nii.gz")
    for code in ("sform_code", "qform_code", "xyzt_units"):
        assert found.header[code] == wanted.header[code]
    np.testing.assert_allclose(found.get_sform(), wanted.get_sform(), atol=1e-5)
    np.testing.assert_allclose(found.get_qform(), wanted.get_qform(), atol=1e-5)
    assert dice(np.asarray(found.dataobj), np.asarray(wanted.dataobj)) >= 0.99


def test_a_header_with_only_a_qform_gets_only_a_qform(tools):
    image, _ = pair(tools, (20, 18, 22), (2.0, 2.0, 2.0))
    image.set_sform(None, 0)
    image.set_qform(image.get_qform(), 1)
    found = conform(image, None, Target((2.0,) * 3, (24,) * 3))
    back = to_native(np.zeros((24,) * 3, np.uint8), scan_of(image, found))
    assert (int(back.header["sform_code"]), int(back.header["qform_code"])) == (0, 1)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-5)


FORMS = [(0, 0), (1, 0), (0, 1), (2, 1), (4, 4)]


def raw_header(path):
    """Read codes and pixdim[:4] from the bytes of a NIfTI file, past everything that nibabel makes of them."""
    content = path.read_bytes()
    codes = struct.unpack_from("<hh", content, 252)
    return codes, struct.unpack_from("<4f", content, 76)


@pytest.mark.parametrize("codes", FORMS, ids=str)
@pytest.mark.parametrize("first", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PIR"])
def test_form_codes_and_voxel_sizes_come_back_with_their_signs(tools, codes, first, orientation):
    """qform code, sform code, pixdim[0]: whatever the combination, through a database."""
    folder = tools.folder()
    image, _ = pair(tools, (20, 18, 22), (2.0, 1.9, 2.1), orientation)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    content = bytearray(image.to_bytes())
    struct.pack_into("<hh", content, 252, *codes)
    if codes[0] == 0:  # where there is a qform, this number is part of it
        struct.pack_into("<f", content, 76, first)
    (folder / "a.nii").write_bytes(content)
    (folder / "t.csv").write_text("subject,image,label\np,a.nii,", "utf-8")
    import_table(folder / "t.csv", folder / "site.db", spacing=2.0, grid=26)
    with open_store(folder / "site.db") as store:
        (scan,) = store.scans()
        from_database = to_native(np.zeros(scan.shape, np.uint8), scan)
    shares = np.zeros((2, *scan.shape), np.float32)
    at_once = shares_to_native(shares, replace(scan, native=images.native(images.load(folder / "a.nii"))))
    for back in (from_database, at_once):
        nib.save(back, folder / "back.nii")
        found_codes, found_sizes = raw_header(folder / "back.nii")
        wanted_codes, (sign, *sizes) = raw_header(folder / "a.nii")
        assert found_codes == wanted_codes == codes
        # By the standard 0 means 1, and nibabel reads it so.
        np.testing.assert_allclose(found_sizes, (sign or 1, *sizes), rtol=1e-6)
        np.testing.assert_allclose(nib.load(folder / "back.nii").affine, nib.load(folder / "a.nii").affine, atol=1e-5)


def test_what_the_affine_says_is_not_stored_twice(tools):
    image, _ = pair(tools, (20, 18, 22), (2.0, 1.9, 2.1), "LAS")
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    assert images.native(image).pixdim == ()
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    assert images.native(image).pixdim == pytest.approx((-1, 2.0, 1.9, 2.1))


@pytest.mark.parametrize("pixdim", ["x", [1], [1, 2, 3, "4"], [1, 2, 3, True], {"a": 1}, [1, 2, 3, 1e999]])
def test_a_malformed_pixdim_in_a_database_is_refused(tools, pixdim):
    native = {"shape": [4, 4, 4], "affine": np.eye(4).tolist(), "pixdim": pixdim}
    path = tools.spoil(tools.database(), ("UPDATE scans SET native = ?", (json.dumps(native),)))
    with pytest.raises(StoreError, match="malformed native"), open_store(path):
        pass


def test_where_the_native_image_is_unknown_the_grid_is_its_own(tools):
    with open_store(tools.database()) as store:
        (scan,) = store.scans()
        label = store.read_label(scan, (0, 0, 0), scan.shape)
        back = to_native(label, scan)
    assert (np.asarray(back.dataobj) == label).all() and np.allclose(back.affine, scan.affine)


def test_labels_of_another_grid_are_refused(tools):
    with open_store(tools.database()) as store:
        (scan,) = store.scans()
        for bad in (np.zeros((3, 3, 3), np.uint8), np.zeros(scan.shape, np.float32)):
            with pytest.raises(ScanError, match="is not on the scan's grid"):
                to_native(bad, scan)
        for wrong in (np.zeros((2, 3, 3, 3), np.float32), np.zeros((2, *scan.shape), np.uint8)):
            with pytest.raises(ScanError, match="are not on the scan's grid"):
                shares_to_native(wrong, scan)
        many = to_native(np.full(scan.shape, 1000, np.int32), replace(scan, native=None))
        assert many.get_data_dtype() == np.int16
