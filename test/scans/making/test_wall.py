"""Whatever a reader of nibabel raises, one scan is left out with its reason, and the next one goes on."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ImportScanError, ScanError
from computation.scans.making import images
from computation.scans.making.ingest import import_table
from computation.scans.making.recipe import Recipe, make
from computation.scans.making.sources import Row
from computation.scans.making.wall import wall

MINC2 = b"\x89HDF\r\n\x1a\n" + bytes(2000)
PAR = b"# === DATA DESCRIPTION FILE ===\n# CLINICAL TRYOUT Research image export tool V4.2\n#\n.  Patient name : x\n"
HEAD = b"type = integer-attribute\nname = DATASET_DIMENSIONS\ncount = 5\n 4 4 4 0 0\n"


def mgh(kind=3, version=1, good=1, sides=(8, 8, 8)):
    """An MGH file with any type of voxels, known or not."""
    header = struct.pack(">iiiiiiih", version, *sides, 1, kind, 0, good)
    affine = struct.pack(">3f9f3f", 1, 1, 1, *np.eye(3).ravel(), 0, 0, 0)
    return (header + affine).ljust(284, b"\0") + bytes(4 * 512)


def nan_affine():
    image = nib.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
    image.set_sform(np.eye(4), 1)
    content = bytearray(image.to_bytes())
    content[280:284] = struct.pack("<f", np.nan)  # srow_x
    return bytes(content)


UNREADABLE = {
    "type.mgh": mgh(kind=77),
    "type.mgz": gzip.compress(mgh(kind=77)),
    "version.mgh": mgh(version=9),
    "minc2.mnc": MINC2,
    "broken.PAR": PAR,
    "broken.HEAD": HEAD,
    "broken+orig.BRIK": b"1234",
    "nan.nii": nan_affine(),
    "gifti.gii": b"<GIFTI>",
    "trk.trk": b"TRACK" + bytes(995),
    "cut.nii.gz": gzip.compress(nan_affine())[:-9],
    "nothing.img": b"",
    "dicom.dcm": bytes(128) + b"DICM",
    "noise.nii": np.random.default_rng(0).bytes(5000),
    "noise.hdr": np.random.default_rng(1).bytes(348),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_no_reader_can_read_is_an_import_error(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(ImportScanError) as caught:
        make(Row("p", "", "", path, None), "train", Recipe(), {})
    assert str(tmp_path) not in caught.value.public
    assert str(path) in caught.value.private


def test_each_of_them_is_left_out_of_an_import_and_the_others_are_taken(tools):
    folder = tools.folder()
    table = tools.table(folder, 2)
    lines = table.read_text("utf-8").splitlines()
    for index, (name, content) in enumerate(UNREADABLE.items()):
        (folder / name).write_bytes(content)
        lines.insert(2, f"bad{index},{name},")
    table.write_text("\n".join(lines), "utf-8")
    summary = import_table(table, folder / "site.db", spacing=2.0, grid=24)
    assert [scan.subject for scan in summary.taken] == ["p0", "p1"]
    assert {scan.subject for scan in summary.left_out} == {f"bad{index}" for index in range(len(UNREADABLE))}


@pytest.mark.parametrize(
    ("raised", "public"),
    [
        (MemoryError(), "more memory than there is"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), "a further package"),
        (nib.tripwire.TripWireError("need h5py"), "a further package"),
        (nib.parrec.PARRECError("/secret"), r"nibabel can read \(PARRECError\)"),
        (nib.orientations.OrientationError("/secret"), r"nibabel can read \(OrientationError\)"),
        (KeyError("/secret"), r"cannot be read \(KeyError\)"),
        (struct.error("/secret"), r"cannot be read \(error\)"),
    ],
)
def test_what_each_becomes(tmp_path, raised, public):
    with pytest.raises(ImportScanError, match=public) as caught, wall(tmp_path / "a.nii"):
        raise raised
    assert "secret" not in caught.value.public and caught.value.__cause__ is raised


@pytest.mark.parametrize(("private", "wanted"), [("", "/a.nii"), ("/b.nii: cut", "/b.nii: cut")])
def test_an_error_that_names_no_scan_gets_its_path(private, wanted):
    with pytest.raises(ImportScanError, match="ours") as caught, wall(Path("/a.nii")):
        raise ImportScanError("ours", private)
    assert caught.value.private == wanted


@pytest.mark.parametrize("raised", [ScanError("ours"), KeyboardInterrupt(), SystemExit(3)])
def test_our_own_errors_and_the_end_of_the_process_pass(tmp_path, raised):
    with pytest.raises(type(raised)) as caught, wall(tmp_path):
        raise raised
    assert caught.value is raised


HEADER = bytearray(nib.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)).to_bytes())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_header_gives_an_image_or_one_error(tmp_path_factory, changes):
    content = bytearray(HEADER)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "changed.nii"
    path.write_bytes(content)
    try:
        image = images.load(path)
    except ImportScanError:
        return
    assert image.shape
