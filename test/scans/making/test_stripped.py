"""Stripped heads and raw ones told apart, from balls of a brain's and a head's size."""

import nibabel as nib
import numpy as np
import pytest

from computation.scans.making.ingest import import_table
from computation.scans.making.stripped import is_stripped
from computation.scans.store.opening import open_store

MM = (4.0, 4.0, 4.0)


def balls(brain=65, head=95, side=60):
    """Return a brain in a head (radii in mm, in voxels of 4 mm) with the brain's label; no head, no skull."""
    away = 4 * np.sqrt(sum((axis - side / 2) ** 2 for axis in np.indices((side,) * 3)))
    image = np.select([away < brain - 20, away < brain, away < head], [200, 150, 90], 0).astype(np.uint8)
    return image, (away < brain - 4).astype(np.uint8)


def test_a_brain_alone_is_stripped():
    image, label = balls(head=0)
    assert is_stripped(image, MM) is True
    assert is_stripped(image, MM, label) is True


def test_a_head_in_air_of_zeros_is_not():
    image, label = balls()
    assert is_stripped(image, MM) is False
    assert is_stripped(image, MM, label) is False


@pytest.mark.parametrize("scale", [1, 1e-3, 7])
@pytest.mark.parametrize("brain", [30, 65])
def test_a_head_in_noisy_air_is_not(scale, brain):
    image, label = balls(brain)
    noisy = scale * (image + np.random.default_rng(0).rayleigh(2, image.shape))
    assert is_stripped(noisy, MM) is False
    assert is_stripped(noisy, MM, label) is False


def test_noise_on_a_part_of_the_grid_is_still_noise():
    image, _ = balls(side=48)
    noisy = image + np.random.default_rng(0).rayleigh(2, image.shape)
    assert is_stripped(np.pad(noisy, 20), MM) is False


def test_labels_decide_where_the_size_does_not():
    newborn, label = balls(brain=46, head=64)
    assert is_stripped(newborn, MM, label) is False
    water, label = balls(brain=88, head=0)
    assert is_stripped(water, MM, label) is True


def test_labels_of_a_small_part_decide_nothing():
    for head, stripped in ((0, True), (95, False)):
        image, _ = balls(head=head)
        label = np.zeros_like(image)
        label[28:32, 28:32, 28:32] = 1
        assert is_stripped(image, MM, label) is stripped


def test_what_a_strip_leaves_without_a_label_is_no_skull():
    image, label = balls(head=0)
    image[26:34, 26:34, 8:14] = 120
    assert is_stripped(image, MM, label) is True


def test_faint_remains_of_a_resampling_are_no_signal():
    image, _ = balls(head=0)
    faint = np.random.default_rng(0).normal(0, 1e-3, image.shape)
    assert is_stripped(image + faint, MM) is True


def test_negative_values_are_signal_and_nothing_is_neither():
    image, _ = balls(head=0)
    assert is_stripped(image.astype(np.int16) - 75 * (image > 0), MM) is True
    assert is_stripped(np.zeros((9, 9, 9), np.uint8), MM) is None


def test_the_kind_stays_with_the_scan_and_a_mixture_is_told(tools):
    folder = tools.folder()
    for name, head in (("a", 0), ("b", 95), ("c", 95)):
        image, label = balls(head=head)
        for kind, voxels in (("t1", image), ("seg", label)):
            nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4, 4, 1])), folder / f"{name}_{kind}.nii.gz")
    rows = [f"{name},{name}_t1.nii.gz,{name}_seg.nii.gz" for name in "abc"]
    (folder / "t.csv").write_text("\n".join(["subject,image,label", *rows]), "utf-8")
    summary = import_table(folder / "t.csv", folder / "site.db", spacing=4.0)
    assert [scan.head for scan in summary.taken] == ["skull-stripped", "not stripped", "not stripped"]
    assert summary.mixed.startswith("1 scans are skull-stripped and 2 are not; a model learns from one kind")
    with open_store(folder / "site.db") as store:
        assert [scan.stripped for scan in store.scans()] == [True, False, False]
    again = import_table(folder / "t.csv", folder / "site.db", spacing=4.0, update=True)
    assert [(scan.state, scan.head) for scan in again.taken] == [("unchanged", scan.head) for scan in summary.taken]
    (folder / "t.csv").write_text("\n".join(["subject,image,label", *rows[1:]]), "utf-8")
    assert import_table(folder / "t.csv", folder / "raw.db", spacing=4.0).mixed == ""
