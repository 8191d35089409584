"""An image that is spread over several files is all of them: a checksum that knows one misses what changes."""

import hashlib
import os

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import images
from computation.scans.making.ingest import import_table

SMALL = {"spacing": 2.0, "grid": 24}


def pairs(tools, folder, count=3, kind=nib.Nifti1Pair, end=".hdr"):
    """Write a table of images whose headers are equal and whose voxels are not."""
    lines = ["subject,image,label"]
    for index in range(count):
        image, label = tools.head(seed=index)
        for name, voxels in ((f"i{index}", image.astype(np.int16)), (f"l{index}", label)):
            nib.save(kind(voxels, np.diag([2.0, 2, 2, 1])), folder / f"{name}.img")
        lines.append(f"p{index},i{index}{end},l{index}{end}")
    (folder / "table.csv").write_text("\n".join(lines), "utf-8")
    return folder / "table.csv"


@pytest.mark.parametrize("end", [".hdr", ".img"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Spm99AnalyzeImage])
def test_a_change_in_any_file_is_seen_whichever_is_named(tools, kind, end):
    folder = tools.folder()
    table = pairs(tools, folder, kind=kind, end=end)
    summary = import_table(table, folder / "site.db", **SMALL)
    assert not any("same image file" in text for scan in summary.taken for text in scan.warnings)
    label = nib.load(folder / "l1.hdr")
    voxels = np.asarray(label.dataobj)
    header = (folder / "l1.hdr").read_bytes()
    nib.save(label.__class__(np.where(voxels == 1, 2, voxels).astype(np.uint8), label.affine), folder / "l1.img")
    assert (folder / "l1.hdr").read_bytes() == header
    states = {scan.subject: scan.state for scan in import_table(table, folder / "site.db", **SMALL, update=True).taken}
    assert states == {"p0": "unchanged", "p1": "changed", "p2": "unchanged"}


def test_equal_headers_are_no_equal_images_and_equal_images_are(tools):
    folder = tools.folder()
    table = pairs(tools, folder, 3)
    for end in ("hdr", "img"):
        (folder / f"i2.{end}").write_bytes((folder / f"i0.{end}").read_bytes())
    told = import_table(table, folder / "site.db", **SMALL, dry_run=True).taken
    assert [any("same image file is there for 2 people" in t for t in scan.warnings) for scan in told] == [1, 0, 1]


def test_both_names_of_a_pair_have_one_checksum_and_one_file_has_its_own(tools):
    folder = tools.folder()
    pairs(tools, folder, 1)
    assert images.checksum(folder / "i0.hdr") == images.checksum(folder / "i0.img")
    for name in ("a.nii", "a.nii.gz", "a.mgz"):
        image = (nib.MGHImage if "mgz" in name else nib.Nifti1Image)(tools.head()[1], np.eye(4))
        nib.save(image, folder / name)
        assert images.checksum(folder / name) == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    # One that cannot be read has the checksum of what there is; reading it says what is wrong.
    (folder / "i0.hdr").write_bytes(b"no")
    assert images.checksum(folder / "i0.hdr") == hashlib.sha256(b"no").hexdigest()


@pytest.mark.parametrize(("named", "pipe"), [("i0.hdr", "i0.img"), ("i0.img", "i0.hdr")])
def test_a_pipe_in_the_place_of_the_other_file_does_not_hang(tools, named, pipe):
    folder = tools.folder()
    pairs(tools, folder, 1)
    (folder / pipe).unlink()
    os.mkfifo(folder / pipe)
    for verb in (images.checksum, images.load):
        with pytest.raises(ImportScanError, match="the image's other file is a folder or a device") as caught:
            verb(folder / named)
        assert caught.value.private == str(folder / pipe)


def afni(folder, voxels, name):
    """Write a data set of AFNI by hand; nibabel only reads them."""
    sides = " ".join(map(str, voxels.shape))
    facts = [
        ("string", "TYPESTRING", "'3DIM_HEAD_ANAT~"),
        ("string", "BYTEORDER_STRING", "'LSB_FIRST~"),
        ("integer", "DATASET_DIMENSIONS", f"{sides} 0 0"),
        ("integer", "DATASET_RANK", "3 1 0 0 0 0 0 0"),
        ("integer", "BRICK_TYPES", "1"),
        ("float", "BRICK_FLOAT_FACS", "0"),
        ("integer", "ORIENT_SPECIFIC", "0 3 4"),
        ("integer", "SCENE_DATA", "0 0 0"),
        ("float", "DELTA", "2 2 2"),
        ("float", "ORIGIN", "0 0 0"),
        ("float", "IJK_TO_DICOM_REAL", "2 0 0 0 0 2 0 0 0 0 2 0"),
    ]
    text = ""
    for kind, title, value in facts:
        count = len(value) - 1 if kind == "string" else len(value.split())
        text += f"\ntype = {kind}-attribute\nname = {title}\ncount = {count}\n{value}\n"
    (folder / f"{name}+orig.HEAD").write_text(text)
    (folder / f"{name}+orig.BRIK").write_bytes(voxels.astype("<i2").tobytes("F"))
    return folder / f"{name}+orig.HEAD"


def test_afni(tools):
    folder = tools.folder()
    voxels = tools.head()[0].astype(np.int16)
    head = afni(folder, voxels, "a")
    assert (np.asarray(images.load(head).dataobj)[..., 0] == voxels).all()
    before = images.checksum(head)
    assert before == images.checksum(folder / "a+orig.BRIK")
    afni(folder, voxels + 1, "a")
    assert images.checksum(head) != before
