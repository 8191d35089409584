"""Units as ITK takes them, and what a header alone is refused for: before a voxel is read, in no time and no memory."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import headers, images, oddities
from computation.scans.making.conform import Target, conform
from computation.scans.making.ingest import import_table
from computation.scans.making.native import to_native
from computation.scans.store.opening import open_store

SMALL = {"spacing": 2.0, "grid": 24}


def written(path, voxels, affine, unit=None):
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units(unit)
    image.set_qform(affine, 1)
    nib.save(image, path)
    return path


def changed(path, **fields):
    """Change fields of a header behind nibabel's back, which would mend them."""
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content, nib.nifti1.header_dtype, 1)
    for name, value in fields.items():
        header[name][0] = value
    path.write_bytes(content)
    return path


class TestUnits:
    @pytest.mark.parametrize(("unit", "length"), [("meter", 1000.0), ("micron", 0.001)])
    @pytest.mark.parametrize("both", [True, False])
    def test_a_scan_in_another_unit_is_the_same_scan(self, tools, unit, length, both):
        """Image and label, or the image alone, count in metres or micrometres: the database holds the same voxels."""
        folder = tools.folder()
        table, affine = tools.table(folder, 2), np.diag([2.0, 2, 2, 1])
        affine[:3, 3] = -7, 5, 3
        other = np.diag([1 / length] * 3 + [1]) @ affine
        for index, (name, matrix) in enumerate((("mm", affine), (unit, other))):
            image, label = tools.head(seed=5)
            written(folder / f"{index}_t1.nii.gz", image.astype(np.int16), matrix, name)
            written(folder / f"{index}_seg.nii.gz", label, *((matrix, name) if both else (affine, "mm")))
        summary = import_table(table, folder / "site.db", **SMALL)
        assert not summary.left_out and all(scan.cut == 0 for scan in summary.taken)
        said = f"the header counts in {unit}, not mm; its numbers were converted"
        assert [said in scan.warnings for scan in summary.taken] == [False, True]
        with open_store(folder / "site.db") as store:
            plain, turned = store.scans()
            assert turned.spacing == (2.0, 2.0, 2.0)
            np.testing.assert_allclose(turned.affine, plain.affine, atol=1e-4)
            whole = [store.read(scan, (0, 0, 0), scan.shape) for scan in (plain, turned)]
            assert all((one == two).all() for one, two in zip(*whole, strict=True))
            assert turned.native.millimetres == length and turned.native.units == unit
            # Back again it has the file's own header, and the label that it came with.
            back, source = to_native(whole[1][1].astype(np.uint8), turned), nib.load(folder / "1_t1.nii.gz")
            assert back.header.get_xyzt_units()[0] == unit
            np.testing.assert_array_equal(back.affine, source.affine)
            np.testing.assert_allclose(back.header.get_zooms(), source.header.get_zooms(), rtol=1e-6)
            assert (np.asarray(back.dataobj) == tools.head(seed=5)[1]).all()

    def test_a_database_from_before_units_were_converted_is_read_as_it_was_made(self, tools):
        folder = tools.folder()
        import_table(tools.table(folder, 1), folder / "site.db", **SMALL)
        with open_store(folder / "site.db") as store:
            assert store.scans()[0].native.millimetres == 1.0
        with closing(sqlite3.connect(folder / "site.db")) as connection:
            (cell,) = connection.execute("SELECT native FROM scans").fetchone()
        assert "millimetres" not in cell, "a scan in mm is written as it always was"

    def test_sizes_are_told_in_millimetres(self, tools):
        image = nib.Nifti1Image(np.zeros((40, 40, 40), np.int16), np.diag([0.001, 0.001, 0.003, 1]))
        image.header.set_xyzt_units("meter")
        assert "voxels are anisotropic: 1 x 1 x 3 mm" in " ".join(oddities.odd(image))


@pytest.mark.parametrize("size", [0.001, 1000.0, 100.0, 0.01])
@pytest.mark.parametrize("unit", ["mm", "unknown", "meter", "micron"])
def test_what_cannot_be_a_head_is_refused_at_once_and_the_unit_is_named(tools, size, unit):
    """Sizes in mm: a header whose unit is wrong, or that has none."""
    number = size / {"meter": 1000, "micron": 0.001}.get(unit, 1)
    path = written(tools.folder() / "a.nii", np.ones((64, 64, 64), np.int16), np.diag([number] * 3 + [1]), unit)
    began = time.monotonic()
    counts = "names no unit, and mm were taken" if unit == "unknown" else f"counts in {unit}"
    with pytest.raises(ImportScanError, match=f"cannot be a head; the header {counts}: correct its unit"):
        images.load(path)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"srow_x": np.nan}, "the header's sform holds a number that is NaN or infinite; repair the header"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "the header's qform holds a number that is NaN"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, np.nan] + [1] * 6}, "the header's pixdim holds a number"),
        ({"srow_z": 0}, "the header's sform has no volume; repair the header"),
    ],
)
def test_a_broken_form_is_named(tools, fields, message):
    path = tools.nifti(tools.folder() / "a.nii", tools.head()[1])
    with pytest.raises(ImportScanError, match=message) as caught:
        images.load(changed(path, **fields))
    assert str(path) in caught.value.private


@pytest.mark.parametrize("kind", ["four", "sparse", "scaled"])
def test_an_immense_file_is_refused_by_its_header_in_little_memory(tools, kind):
    """An fMRI series, a sparse file of 1290^3, and one that scaling makes twice as large as a scan may be."""
    path = tools.nifti(tools.folder() / "a.nii", np.zeros((8, 8, 8), np.int16))
    dim = {"four": [4, 128, 128, 128, 300], "sparse": [3, 1290, 1290, 1290, 1], "scaled": [3, 600, 600, 600, 1]}[kind]
    changed(path, dim=[*dim, 1, 1, 1], scl_slope=2.0 if kind == "scaled" else 1.0)
    with path.open("r+b") as file:
        file.truncate(352 + 2 * int(np.prod(dim[1:])))
    script = f"""if True:
        import pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from peak import kilobytes
        from computation.errors import ImportScanError
        from computation.scans.making import images
        before = kilobytes()
        try:
            images.load(pathlib.Path({str(path)!r}))
        except ImportScanError as error:
            print(kilobytes() - before, error.public)
    """
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    kilobytes, _, reason = shown.partition(" ")
    assert int(kilobytes) < 50_000
    wanted = {"four": "found a shape of 128 x 128 x 128 x 300", "sparse": "4.29 GB in memory", "scaled": "1.73 GB"}
    assert wanted[kind] in reason


def test_the_others_of_a_batch_are_taken_beside_a_sparse_image(tools):
    folder = tools.folder()
    table = tools.table(folder, 3)
    path = tools.nifti(folder / "1_t1.nii", np.zeros((8, 8, 8), np.int16))
    changed(path, dim=[3, 600, 600, 600, 1, 1, 1, 1], scl_slope=2.0)
    with path.open("r+b") as file:
        file.truncate(352 + 2 * 600**3)
    table.write_text(table.read_text("utf-8").replace("1_t1.nii.gz", "1_t1.nii"), "utf-8")
    summary = import_table(table, folder / "site.db", **SMALL)
    assert [scan.subject for scan in summary.taken] == ["p0", "p2"]
    assert "600 x 600 x 600 voxels, 1.73 GB in memory; wanted at most" in summary.left_out[0].reason


def test_alignment_is_told_by_headers_alone(tools):
    """Before a label map of another grid is read."""
    folder = tools.folder()
    table = tools.table(folder, 2)
    content = bytearray(nib.Nifti1Image(np.zeros((40, 40, 40), np.uint8), np.eye(4)).to_bytes()[:352])
    (folder / "1_seg.nii").write_bytes(content)
    table.write_text(table.read_text("utf-8").replace("1_seg.nii.gz", "1_seg.nii"), "utf-8")
    reason = import_table(table, folder / "site.db", **SMALL).left_out[0].reason
    assert "different grids, 20 x 18 x 22 and 40 x 40 x 40 voxels" in reason


def test_units_of_evaluated_maps_are_converted_too(tools):
    label = tools.head()[1]
    metres = nib.Nifti1Image(label, np.diag([0.002, 0.002, 0.002, 1]))
    metres.header.set_xyzt_units("meter")
    found = conform(nib.Nifti1Image(label, np.diag([2.0, 2, 2, 1])), metres, Target(None, None))
    assert (found.image == found.label).all() and headers.millimetres(metres) == 1000
