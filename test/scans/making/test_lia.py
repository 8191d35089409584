"""FreeSurfer's way of conforming, against the description it follows, written out again with nibabel's MGH header."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from computation.errors import ImportScanError
from computation.scans.making import lia
from computation.scans.making.conform import Target, conform

LIA = Target((2.0,) * 3, (32,) * 3, "freesurfer")


def reference(image, target):
    """The published steps, in float64, with the affine that nibabel's MGH header computes from them."""
    header = nib.freesurfer.mghformat.MGHHeader()
    header.set_data_shape([*target.grid, 1])
    header.set_zooms(target.spacing)
    header["Mdc"] = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]).T
    header["Pxyz_c"] = (image.affine @ [*(np.array(image.shape) / 2), 1])[:3]
    affine = header.get_affine()
    data = np.asarray(image.dataobj).astype(float)
    back = np.linalg.inv(image.affine) @ affine
    mapped = ndimage.affine_transform(data, back, output_shape=target.grid, order=1)
    if image.get_data_dtype() == np.uint8:
        return affine, np.rint(mapped)
    counts, edges = np.histogram(data, 1000)
    total = np.concatenate([[0], np.cumsum(counts)])
    upper = data.size - int(0.001 * np.count_nonzero(data))
    high, low = edges[np.flatnonzero(total >= upper)[0] - 2], data.min()
    scaled = np.clip(255 / (high - low) * (mapped - low), 0, 255)
    scaled[mapped == 0] = 0
    return affine, np.rint(scaled)


def oblique(degrees, sizes=(1.5, 2.0, 2.5), shift=(3, -7, 11)):
    a, b, c = np.deg2rad(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = x @ y @ z @ np.diag(sizes)
    affine[:3, 3] = shift
    return affine


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(-30, 30)] * 3), st.sampled_from(["int16", "float32", "uint8"]), st.integers(0, 9))
def test_voxel_by_voxel_as_described(tools, degrees, dtype, seed):
    image = tools.head((20, 18, 22), seed=seed)[0] / (5 if dtype == "uint8" else 1)
    source = nib.Nifti1Image(image.astype(dtype), oblique(degrees))
    found = conform(source, None, LIA)
    affine, wanted = reference(source, LIA)
    # The MGH header holds the centre in float32.
    np.testing.assert_allclose(found.affine, affine, atol=1e-5)
    assert found.image.dtype == np.uint8 and nib.aff2axcodes(np.array(found.affine)) == ("L", "I", "A")
    # Ours interpolates in float32: a value that lies on a half may be rounded to its other neighbour.
    apart = np.abs(found.image - wanted)
    assert apart.max() <= 1 and np.mean(apart > 0) < 0.002


def test_a_conformed_image_stays_as_it_is(tools):
    image = (tools.head((32, 32, 32))[0] / 4).astype(np.uint8)
    affine = lia.grid(np.diag([2.0, 2, 2, 1]), (32, 32, 32), np.array([2.0] * 3), (32, 32, 32))
    found = conform(nib.MGHImage(image, affine), None, LIA)
    assert (found.image == image).all() and found.cut == 0
    np.testing.assert_allclose(found.affine, affine, atol=1e-6)


def test_labels_are_never_mixed_and_the_cut_is_measured(tools):
    image, label = tools.head((28, 28, 28))
    affine = oblique((0, 0, 20), (2, 2, 2))
    found = conform(nib.Nifti1Image(image.astype(np.int16), affine), nib.Nifti1Image(label, affine), LIA)
    assert set(np.unique(found.label)) == {0, 1, 2} and found.cut == 0
    small = conform(
        nib.Nifti1Image(image.astype(np.int16), affine),
        nib.Nifti1Image(label, affine),
        Target((2.0,) * 3, (12,) * 3, "freesurfer"),
    )
    kept = np.count_nonzero(small.label) / np.count_nonzero(label)
    assert small.cut == pytest.approx(1 - kept, abs=0.01) and small.cut > 0.5


def test_it_needs_a_grid():
    with pytest.raises(ImportScanError, match="needs a spacing and a grid"):
        Target(None, (256,) * 3, "freesurfer")
    with pytest.raises(ImportScanError, match="conforming like 'spm' is unknown; choose one of ras, freesurfer"):
        Target(like="spm")
