"""What goes to the conformed grid and back is what came, in its own space and header."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ScanError
from computation.scans import images
from computation.scans.conform import Target, conform
from computation.scans.ingest import import_table
from computation.scans.native import to_native
from computation.scans.records import Scan
from computation.scans.store import open_store

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
    return [nib.Nifti1Image(one, affine).as_reoriented(change) for one in (image.astype(np.int16), label)]


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


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.sampled_from([0.8, 1.0, 1.3, 2.0])] * 3),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from(["ras", "freesurfer"]),
)
def test_there_and_back_again_keeps_dice(tools, orientation, sizes, degrees, like):
    """To the native space and to the conformed grid again, against the conformed label."""
    image, label = pair(tools, (52, 48, 50), sizes, orientation, degrees)
    target = Target((1.0,) * 3, (112,) * 3, like)
    found = conform(image, label, target)
    native = to_native(found.label, scan_of(image, found))
    assert native.shape == image.shape
    np.testing.assert_allclose(native.affine, image.affine, atol=1e-5)
    again = conform(image, native, target)
    limit = 0.99 if like == "ras" or degrees == 0 else 0.97
    assert dice(again.label, found.label) >= limit


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
        many = to_native(np.full(scan.shape, 1000, np.int32), replace(scan, native=None))
        assert many.get_data_dtype() == np.int16
