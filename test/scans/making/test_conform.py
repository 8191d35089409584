"""Conforming against nibabel.processing, voxel by voxel, and the laws that any conforming must keep."""

import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ImportScanError
from computation.scans.making.conform import Target, conform, grid_of_view

ORIENTATIONS = ["RAS", "LAS", "LIA", "ASR", "PIL", "SPL"]


def picture(tools, orientation="RAS", spacing=(1.0, 1.0, 1.0), shape=(20, 18, 22), tilt=0.0):
    """An image and its label, stored in any orientation, spacing and tilt."""
    image, label = tools.head(shape)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-7, 11, 3)
    wanted = nib.orientations.axcodes2ornt(orientation)
    pair = [nib.Nifti1Image(one, affine) for one in (image.astype(np.int16), label)]
    moves = nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
    return [one.as_reoriented(moves) for one in pair]


def reference(image, target, order):
    return nib.processing.conform(image, target.grid, target.spacing, order=order)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.0, 1.3)])
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_finer_grids_agree_with_nibabel(tools, orientation, spacing, tilt):
    """Without an axis that becomes coarser there is no smoothing, and both are plain linear interpolation."""
    image, label = picture(tools, orientation, spacing, tilt=tilt)
    target = Target((0.7, 0.8, 0.9), (30, 28, 33))
    found = conform(image, label, target)
    wanted = reference(image, target, 1)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-6)
    # nibabel rounds to the header's int16.
    np.testing.assert_allclose(found.image, wanted.get_fdata(), atol=0.51)
    assert (found.label == np.asarray(reference(label, target, 0).dataobj)).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("side", [2.0, 3.0])
def test_coarser_grids_agree_with_nibabel_after_its_smoothing(tools, orientation, side):
    """The antialiasing is Gaussian with a full width at half maximum of sqrt(k^2 - 1) old voxels."""
    image, label = picture(tools, orientation)
    target = Target((side,) * 3, (13, 12, 11))
    found = conform(image, label, target)
    real = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    smooth = nib.processing.smooth_image(real, np.sqrt(side**2 - 1), mode="constant")
    np.testing.assert_allclose(found.image, reference(smooth, target, 1).get_fdata(), atol=0.02)
    assert (found.label == np.asarray(reference(label, target, 0).dataobj)).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_orientation_of_the_file_does_not_matter(tools, orientation):
    target = Target((1.0,) * 3, (24, 24, 24))
    plain, turned = conform(*picture(tools), target), conform(*picture(tools, orientation), target)
    assert [np.argmax(np.abs(row[:3])) for row in turned.affine[:3]] == [0, 1, 2]
    inside = nib.Nifti1Image(turned.image.astype(np.int16), np.array(turned.affine))
    back = nib.processing.resample_from_to(inside, (plain.image.shape, np.array(plain.affine)), order=0)
    assert (np.asarray(back.dataobj) == plain.image).all()


def test_equal_spacing_is_copied_exactly_with_its_type(tools):
    image, label = picture(tools, "LIA")
    found = conform(image, label, Target((1.0,) * 3, (31, 18, 16)))
    assert found.image.dtype == np.int16 and found.label.dtype == np.uint8
    wanted = reference(label, Target((1.0,) * 3, (31, 18, 16)), 0)
    assert (found.label == np.asarray(wanted.dataobj)).all()


def test_a_header_that_is_a_hair_off_is_not_resampled(tools):
    image, label = picture(tools, spacing=(1.00001, 0.99999, 1.0))
    found = conform(image, label, Target((1.0,) * 3, (24, 24, 24)))
    assert found.image.dtype == np.int16
    assert sorted(np.unique(found.image)) == sorted(np.unique(image.dataobj))


def test_nothing_wanted_nothing_changed(tools):
    image, label = picture(tools, spacing=(0.9, 1.0, 1.3))
    found = conform(image, label, Target(None, None))
    assert (found.image == np.asarray(image.dataobj)).all() and (found.label == np.asarray(label.dataobj)).all()
    np.testing.assert_allclose(found.affine, image.affine)


def test_a_grid_of_ones_own_field_of_view(tools):
    image, label = picture(tools)
    assert conform(image, label, Target((2.0,) * 3, None)).image.shape == (10, 9, 11)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0.5, 4)] * 3), st.tuples(*[st.integers(4, 30)] * 3), st.sampled_from(ORIENTATIONS))
def test_no_overshoot_no_new_labels_and_the_centre_stays(tools, spacing, grid, orientation):
    image, label = picture(tools, orientation)
    found = conform(image, label, Target(spacing, grid))
    assert found.image.shape == found.label.shape == grid
    assert found.image.min() >= 0 and found.image.max() <= np.asarray(image.dataobj).max() * (1 + 1e-6)
    assert set(np.unique(found.label)) <= {0, 1, 2}
    canonical = nib.as_closest_canonical(image)
    centres = [
        nib.affines.apply_affine(affine, (np.array(shape) - 1) // 2)
        for affine, shape in ((canonical.affine, canonical.shape), (np.array(found.affine), grid))
    ]
    np.testing.assert_allclose(*centres, atol=1e-4)
    assert 0 <= found.cut <= 1


def test_a_grid_that_cuts_the_head_says_how_much(tools):
    image, label = picture(tools)
    assert conform(image, label, Target((1.0,) * 3, (24, 24, 24))).cut == 0
    found = conform(image, label, Target((1.0,) * 3, (8, 24, 24)))
    kept = np.count_nonzero(found.label) / np.count_nonzero(np.asarray(label.dataobj))
    assert found.cut == pytest.approx(1 - kept)


def test_image_and_label_of_different_shapes(tools):
    image, label = picture(tools)
    with pytest.raises(
        ImportScanError, match="different grids, 20 x 18 x 22 and 19 x 18 x 22 voxels; resample the label"
    ):
        conform(image, label.slicer[1:], Target())


def test_image_and_label_of_different_places(tools):
    image, label = picture(tools)
    moved = label.affine.copy()
    moved[0, 3] += 1.5
    with pytest.raises(ImportScanError, match=r"different grids: their corners lie 1\.50 mm apart"):
        conform(image, nib.Nifti1Image(np.asarray(label.dataobj), moved), Target())


def test_image_and_label_may_be_stored_in_different_orientations(tools):
    image, _ = picture(tools, "RAS")
    _, label = picture(tools, "LIA")
    plain = conform(*picture(tools), Target((1.0,) * 3, (24, 24, 24)))
    assert (conform(image, label, Target((1.0,) * 3, (24, 24, 24))).label == plain.label).all()


def test_four_dimensions_with_one_volume(tools):
    image, label = picture(tools)
    longer = nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine)
    found = conform(longer, label, Target(None, None))
    assert (found.image == np.asarray(image.dataobj)).all()


@pytest.mark.parametrize("shape", [(5, 5), (5, 5, 5, 2), (5, 5, 0)])
def test_what_is_not_one_volume_is_refused(shape):
    with pytest.raises(ImportScanError, match="wanted one 3-D volume, found a shape of 5 x 5"):
        conform(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), None, Target())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("like", ["ras", "freesurfer"])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_not_finite_outside_the_head_becomes_0_and_is_counted(tools, bad, like, labelled):
    """As a tool leaves it that masks the brain: by far the most voxels, none of them in the head."""
    image, label = picture(tools, "PIL")
    masked = np.where(np.asarray(label.dataobj) == 0, np.float32(bad), np.asarray(image.dataobj, np.float32))
    target = Target((1.3,) * 3, (24, 24, 24), like)
    whole = nib.Nifti1Image(np.where(np.isfinite(masked), masked, 0), image.affine)
    given = label.as_reoriented([[1, 1], [2, -1], [0, 1]]) if labelled else None
    found = conform(nib.Nifti1Image(masked, image.affine), given, target)
    assert found.broken == np.sum(~np.isfinite(masked)) > 0
    assert np.isfinite(found.image).all() and (found.image == conform(whole, given, target).image).all()
    assert conform(whole, given, target).broken == 0


@pytest.mark.parametrize("labelled", [True, False])
def test_a_head_with_holes_of_nan_is_refused_and_a_speck_is_not(tools, labelled):
    image, label = picture(tools)
    voxels = np.asarray(image.dataobj, np.float32)
    voxels[10, 9, 11] = np.nan
    given = label if labelled else None
    assert conform(nib.Nifti1Image(voxels, image.affine), given, Target()).broken == 1
    voxels[8:12, 8:12, 8:12] = np.nan
    with pytest.raises(
        ImportScanError, match=r"64 voxels are NaN or infinite, among them 3\.\d% of the head; at most 1%"
    ):
        conform(nib.Nifti1Image(voxels, image.affine), given, Target())


def test_labels_that_are_not_finite_are_refused(tools):
    image, label = picture(tools)
    voxels = np.asarray(label.dataobj, np.float32)
    voxels[0, 0, :3] = np.nan
    with pytest.raises(ImportScanError, match="3 voxels of the label map are NaN or infinite; repair it first"):
        conform(image, nib.Nifti1Image(voxels, label.affine), Target())


def test_colours_are_not_grey_values():
    voxels = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ImportScanError, match="are not numbers; convert the file to grey values"):
        conform(nib.Nifti1Image(voxels, np.eye(4)), None, Target())


def test_an_affine_without_volume():
    with pytest.raises(ImportScanError, match="affine has no volume; repair the header"):
        conform(nib.MGHImage(np.ones((4, 4, 4), np.float32), np.diag([1.0, 1.0, 1e-12, 1.0])), None, Target())


@pytest.mark.parametrize("given", [{"spacing": (0.0, 1.0, 1.0)}, {"grid": (2, 9, 9)}, {"grid": (9, 9, 5000)}])
def test_targets_out_of_range(given):
    with pytest.raises(ImportScanError, match="must be from"):
        Target(**given)


def test_the_grid_follows_the_spacing_where_none_is_given():
    assert grid_of_view((1.0, 1.0, 1.0)) == Target().grid == (256, 256, 256)
    assert grid_of_view((2.0, 2.0, 2.0)) == (128, 128, 128)
    assert grid_of_view((0.8, 1.2, 3.0)) == (320, 213, 85)
    assert grid_of_view(None) is None
    # `Target` says what is wrong with it.
    assert grid_of_view((0.0, 1.0, 1.0)) is None
