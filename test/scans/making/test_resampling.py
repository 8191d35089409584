"""The resampler against SciPy with the whole matrix, and against nibabel."""

import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from computation.scans.making.resampling import outside, resample

AXES = st.permutations([0, 1, 2])
SIGNS = st.tuples(*[st.sampled_from([-1, 1])] * 3)
PLACES = st.tuples(*[st.integers(-9, 12)] * 3)
SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=60, deadline=None)
@given(AXES, SIGNS, PLACES, SHAPES, SHAPES, st.sampled_from([0, 1]))
def test_whole_steps_are_copies_in_every_orientation(axes, signs, places, shape, wanted, order):
    voxels = np.arange(1, np.prod(shape) + 1, dtype=np.int16).reshape(shape)
    steps = np.eye(4)
    steps[:3, :3] = np.diag(signs)[list(axes)]
    steps[:3, 3] = places
    old = np.diag([1.5, 2.0, 0.7, 1.0])
    old[:3, 3] = (3.1, -8, 2)
    found = resample(voxels, old, old @ steps, wanted, order=order)
    assert found.dtype == np.int16 and found.shape == wanted
    assert (found == ndimage.affine_transform(voxels, steps, output_shape=wanted, order=0)).all()


@pytest.mark.parametrize("angles", [(0.3, -0.2, 0.1), (0.0, 0.0, 0.45), (-0.4, 0.2, 0.3)])
@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.6, 1.7, 1.1)])
@pytest.mark.parametrize("order", [0, 1])
def test_any_grid_agrees_with_nibabel_where_nothing_is_smoothed(angles, sizes, order):
    voxels = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    new = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) * sizes, (1.03, 0.02, 2.01))
    image = nib.Nifti1Image(voxels, np.eye(4))
    wanted = nib.processing.resample_from_to(image, ((10, 10, 10), new), order=order).get_fdata()
    np.testing.assert_allclose(
        resample(voxels, np.eye(4), new, (10, 10, 10), order=order, smooth=False), wanted, atol=1e-5
    )


def test_a_turned_grid_of_the_same_spacing_is_not_smoothed():
    voxels = np.random.default_rng(1).normal(size=(9, 9, 9)).astype(np.float32)
    new = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1), (0.5, 0.2, 0))
    one, other = (resample(voxels, np.eye(4), new, (8, 8, 8), order=1, smooth=smooth) for smooth in (True, False))
    assert (one == other).all()


def test_the_rim_is_half_a_voxel():
    voxels, new = np.ones((4, 4, 4), np.uint8), np.diag([0.25, 1.0, 1.0, 1.0])
    new[0, 3] = -1
    with_rim, without = (
        resample(voxels, np.eye(4), new, (24, 4, 4), order=0, rim=rim)[:, 0, 0] for rim in (True, False)
    )
    places = np.arange(24) / 4 - 1
    assert (without == ((places >= 0) & (places <= 3))).all()
    assert (with_rim == ((places >= -0.5) & (places < 3.5))).all()


@pytest.mark.parametrize("turned", [False, True])
def test_what_lies_outside_is_counted(turned):
    head = np.random.default_rng(2).integers(0, 2, (9, 10, 11))
    new = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.4 * turned, 0.1 * turned, 0), (1.2, 2.1, 1.3))
    places = np.argwhere(head) @ np.linalg.inv(new)[:3, :3].T + np.linalg.inv(new)[:3, 3]
    lost = ~((places >= -0.5) & (places < np.array((7, 6, 8)) - 0.5)).all(1)
    assert outside(head, np.eye(4), new, (7, 6, 8)) == pytest.approx(lost.mean())
    assert outside(np.zeros((3, 3, 3)), np.eye(4), new, (7, 6, 8)) == 0
