"""What a folder holds for a user who may not read all of it."""

import codecs
import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import folders, images, sources

NOBODY = 65534


@pytest.fixture
def place():
    """A folder that anybody can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(verb):
    """Return what a function returns, or raises, for a user without rights: root may read everything."""
    if os.getuid() != 0:
        return verb()
    codecs.lookup("utf-8-sig")  # the child cannot load what it needs of a Python that only root may read
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = verb()
        except BaseException as error:
            found = error
        os.write(writing, pickle.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(found, BaseException):
        raise found
    return found


def subject(folder, name):
    (home := folder / name / "mri").mkdir(parents=True)
    for file in ("T1", "aparc+aseg"):
        nib.save(nib.MGHImage(np.zeros((4, 4, 4), np.uint8), np.eye(4)), home / f"{file}.mgz")


def dataset(folder, *people):
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    for person in people:
        for home, kind in ((folder, "T1w"), (folder / "derivatives" / "m", "dseg")):
            (home / person / "anat").mkdir(parents=True)
            (home / person / "anat" / f"{person}_{kind}.nii.gz").write_bytes(b"")


def listed(listing):
    reasons = {f"{one.subject} {one.session}".strip(): one.reason for one in listing.left_out}
    return [row.subject for row in listing.rows], reasons


CLOSED = "a folder cannot be read (Permission denied); mend its permissions"


@pytest.mark.parametrize("closed", ["anna", "anna/mri"])
def test_a_closed_subject_of_freesurfer_is_left_out_and_the_others_are_taken(place, closed):
    for name in ("anna", "bert"):
        subject(place, name)
    (place / closed).chmod(0)
    assert listed(as_nobody(lambda: sources.freesurfer(place))) == (["bert"], {"anna": CLOSED})


def test_a_base_whose_time_points_may_not_be_read_is_told(place):
    for name in ("base", "bert"):
        subject(place, name)
    (place / "base" / "base-tps").write_text("tp1 tp2")
    (place / "base" / "base-tps").chmod(0)
    taken, reasons = listed(as_nobody(lambda: sources.freesurfer(place)))
    assert taken == ["bert"] and "base-tps may not be read" in reasons["base"]


@pytest.mark.parametrize("closed", ["sub-1", "sub-1/anat", "derivatives/m/sub-1", "derivatives/m/sub-1/anat"])
def test_a_closed_person_of_bids_is_left_out_with_the_true_reason(place, closed):
    dataset(place, "sub-1", "sub-2")
    (place / closed).chmod(0)
    assert listed(as_nobody(lambda: sources.bids(place))) == (["sub-2"], {"sub-1": CLOSED})


def test_where_all_are_closed_the_reason_is_told(place):
    subject(place, "anna")
    (place / "anna").chmod(0)
    with pytest.raises(ImportScanError, match=r"holds no subject that can be imported: a folder cannot be read"):
        as_nobody(lambda: sources.freesurfer(place))
    (place / "anna").chmod(0o755)
    place.chmod(0)
    with pytest.raises(ImportScanError, match="a folder cannot be read"):
        as_nobody(lambda: sources.freesurfer(place))


def test_a_file_behind_a_closed_folder_is_not_called_missing(place):
    subject(place, "anna")
    (place / "anna").chmod(0)
    with pytest.raises(ImportScanError, match="closed to this user"):
        as_nobody(lambda: images.checksum(place / "anna" / "mri" / "T1.mgz"))


def test_files_that_macos_puts_beside_others_are_ignored(place):
    dataset(place, "sub-1")
    for path in [*place.rglob("*.nii.gz"), place / "sub-1", place / "derivatives" / "m"]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert listed(sources.bids(place)) == (["sub-1"], {})
    subject(place / "fs", "bert")
    (place / "fs" / "._bert").write_bytes(b"\0\5\x16\7")
    assert listed(sources.freesurfer(place / "fs")) == (["bert"], {})


def test_what_is_missing_or_no_folder_has_no_entries(place):
    (place / "file").write_text("")
    for path in (place / "none", place / "file", place / "file" / "below"):
        assert folders.entries(path) == [] and not folders.is_folder(path)


def test_a_name_that_is_not_utf_8_is_spelt(place):
    subject(place, os.fsdecode(b"Jos\xe9"))
    assert listed(sources.freesurfer(place)) == ([r"Jos\xe9"], {})
