"""A person hears what is odd about a scan, in words without a path, and it stays with the scan."""

import nibabel as nib
import numpy as np
import pytest

from computation.scans.making.conform import Conformed
from computation.scans.making.ingest import import_table
from computation.scans.making.oddities import odd, roomy
from computation.scans.store.opening import open_store


def image(shape=(40, 40, 40), sizes=(1, 1, 1), kind=nib.Nifti1Image):
    return kind(np.zeros(shape, np.int16), np.diag([*sizes, 1.0]))


def test_a_usual_scan_is_not_odd():
    one = image()
    one.set_qform(one.affine, 1)
    assert odd(one) == () and odd(image(kind=nib.Nifti2Image)) == ()
    assert odd(nib.MGHImage(np.zeros((40, 40, 40), np.uint8), np.eye(4))) == ()


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (image((40, 40, 40, 1)), "the file has 4 dimensions; its single volume was taken"),
        (image((40, 40, 9)), "the image is tiny: 40 x 40 x 9 voxels"),
        (image(sizes=(1, 1, 3)), "voxels are anisotropic: 1 x 1 x 3 mm"),
        (image(kind=nib.AnalyzeImage), "does not say which side is left"),
    ],
)
def test_what_is_said(one, words):
    assert any(words in text for text in odd(one))


def test_forms_that_disagree_units_and_none():
    one = image()
    other = one.affine.copy()
    other[0, 3] = 4
    one.set_qform(other, 1)
    assert odd(one) == ("sform and qform disagree by up to 4.0 mm; the sform was taken",)
    one = image()
    one.header.set_xyzt_units("micron")
    assert "counts in micron, not mm" in odd(one)[0]
    one = image()
    one.set_sform(None, 0)
    one.set_qform(None, 0)
    assert "the header gives no orientation" in odd(one)[0]


def test_warnings_stay_with_the_scan(tools):
    folder = tools.folder()
    table = tools.table(folder, 1)
    summary = import_table(table, folder / "site.db", spacing=2.0, grid=10)
    texts = summary.taken[0].warnings
    assert "tiny" in texts[0] and "of the head lies outside the grid" in texts[-1]
    with open_store(folder / "site.db") as store:
        assert store.scans()[0].warnings == texts and store.scans()[0].cut == summary.taken[0].cut > 0


def test_what_was_not_finite_outside_the_head_is_said(tools):
    folder = tools.folder()
    table = tools.table(folder, 1)
    voxels = tools.head()[0].astype(np.float32)
    voxels[voxels == 0] = np.nan
    count = int(np.isnan(voxels).sum())
    tools.nifti(folder / "0_t1.nii.gz", voxels, np.diag([2, 2, 2, 1]))
    (scan,) = import_table(table, folder / "site.db", spacing=2.0, grid=24).taken
    assert f"{count} voxels were NaN or infinite, hardly any of them in the head; they became 0" in scan.warnings


def test_a_grid_far_larger_than_the_head_is_said(tools):
    folder = tools.folder()
    table = tools.table(folder, 1)
    far = [import_table(table, folder / f"{grid}.db", spacing=2.0, grid=grid).taken[0].warnings for grid in (48, 24)]
    found = [[text for text in texts if "far larger" in text] for texts in far]
    text = "the grid of 48 x 48 x 48 voxels is far larger than the head, which takes 16 x 14 x 18"
    assert found == [[f"{text}; a smaller grid saves time"], []]
    assert roomy(Conformed(np.zeros((9, 9, 9), np.uint8), None, ((1.0,) * 4,) * 4, 0.0)) == ()
