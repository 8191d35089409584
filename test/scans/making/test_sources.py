"""Files are found where FreeSurfer and BIDS put them; where one would have to guess, the scan is left out by name."""

import json

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import sources
from computation.scans.making.conform import Target
from computation.scans.making.ingest import import_scans
from computation.scans.making.options import Options
from computation.scans.making.recipe import Recipe
from computation.scans.store.opening import open_store

SMALL = Options(Recipe(Target((2.0,) * 3, (24,) * 3), "gwm-white1-grey2:freesurfer-aparc+aseg"))


def freesurfer(tools, folder, name, files=("T1", "aparc+aseg"), seed=0):
    home = folder / name / "mri"
    home.mkdir(parents=True)
    image, label = tools.head(seed=seed)
    ids = np.array([0, 2, 1002], np.int32)[label]
    affine = np.diag([2.0, 2, 2, 1])
    for file in files:
        voxels = ids if "aseg" in file else (image / 4).astype(np.uint8)
        nib.save(nib.MGHImage(voxels, affine), home / f"{file}.mgz")


class TestFreesurfer:
    def test_subjects_become_a_database(self, tools):
        folder = tools.folder()
        for index, name in enumerate(["sub-01_ses-a", "sub-01_ses-b", "bert", "anna"]):
            freesurfer(tools, folder, name, seed=index)
        listing = sources.freesurfer(folder)
        assert [(row.subject, row.session) for row in listing.rows] == [
            ("anna", ""),
            ("bert", ""),
            ("sub-01", "ses-a"),
            ("sub-01", "ses-b"),
        ]
        summary = import_scans(listing, folder / "site.db", SMALL)
        assert len(summary.taken) == 4 and not summary.left_out
        with open_store(folder / "site.db") as store:
            assert {scan.split for scan in store.scans() if scan.subject == "sub-01"} != set()
            scan = store.scans()[0]
            assert set(np.unique(store.read_label(scan, (0, 0, 0), scan.shape))) == {0, 1, 2}

    def test_what_is_left_out_and_why(self, tools):
        folder = tools.folder()
        for name in ("bert", "fsaverage", "bert.long.base", "base"):
            freesurfer(tools, folder, name)
        (folder / "base" / "base-tps").write_text("bert")
        freesurfer(tools, folder, "half", files=("T1",))
        (folder / "logs").mkdir()
        listing = sources.freesurfer(folder)
        assert [row.subject for row in listing.rows] == ["bert"]
        reasons = {one.subject: one.reason for one in listing.left_out}
        assert "template brain" in reasons["fsaverage"] and "longitudinal" in reasons["bert.long.base"]
        assert "longitudinal" in reasons["base"] and reasons["half"] == "there is no mri/aparc+aseg.mgz"

    def test_all_scans_of_a_person_are_that_persons(self, tools):
        folder = tools.folder()
        names = ["sub-01_ses-a", "sub-01_ses-a_run-2", "sub-02_run-1", "sub-02", "tp1", "tp2", "tp3", "other"]
        for name in [*names, "anna", "tp3.long.anna"]:
            freesurfer(tools, folder, name)
        (folder / "anna" / "base-tps").write_text("tp1\ntp2\n")
        assert {(row.subject, row.session) for row in sources.freesurfer(folder).rows} == {
            ("sub-01", "ses-a"),
            ("sub-01", "ses-a_run-2"),
            ("sub-02", "run-1"),
            ("sub-02", ""),
            ("anna", "tp1"),
            ("anna", "tp2"),
            ("anna", "tp3"),
            ("other", ""),
        }

    def test_other_volumes_or_none(self, tools):
        folder = tools.folder()
        freesurfer(tools, folder, "bert", files=("norm", "aseg"))
        (row,) = sources.freesurfer(folder, image="norm", label="aseg").rows
        assert (row.image.name, row.label.name) == ("norm.mgz", "aseg.mgz")
        assert sources.freesurfer(folder, image="norm", label="").rows[0].label is None

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ImportScanError, match="SUBJECTS_DIR is missing"):
            sources.freesurfer(tmp_path / "none")
        with pytest.raises(ImportScanError, match="holds no subject that can be imported"):
            sources.freesurfer(tmp_path)


class TestBids:
    @pytest.fixture
    def dataset(self, tools):
        folder = tools.folder()
        (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
        return folder

    def put(self, tools, folder, *names):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image, label = tools.head()
            tools.nifti(path, label if "dseg" in path.name else image.astype(np.int16), np.diag([2, 2, 2, 1]))

    def test_each_image_finds_its_label(self, tools, dataset):
        self.put(
            tools,
            dataset,
            "sub-01/anat/sub-01_T1w.nii.gz",
            "sub-01/anat/sub-01_T2w.nii.gz",
            "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii",
            "derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz",
            "derivatives/manual/sub-01/anat/sub-01_space-MNI152NLin2009cAsym_dseg.nii.gz",
            "derivatives/manual/sub-01/anat/sub-01_desc-aseg_dseg.nii.gz",
            "derivatives/manual/sub-02/ses-1/anat/sub-02_ses-1_dseg.nii.gz",
        )
        rows = sources.bids(dataset).rows
        assert [(row.subject, row.session, row.image.name, row.label.name) for row in rows] == [
            ("sub-01", "", "sub-01_T1w.nii.gz", "sub-01_dseg.nii.gz"),
            ("sub-02", "ses-1", "sub-02_ses-1_T1w.nii", "sub-02_ses-1_dseg.nii.gz"),
        ]
        assert sources.bids(dataset, desc="aseg").rows[0].label.name == "sub-01_desc-aseg_dseg.nii.gz"
        summary = import_scans(
            sources.bids(dataset), dataset / "site.db", Options(Recipe(Target((2.0,) * 3, (24,) * 3)))
        )
        assert len(summary.taken) == 2

    def test_a_preprocessed_image_is_the_one_on_the_labels_grid(self, tools, dataset):
        self.put(
            tools,
            dataset,
            "sub-01/anat/sub-01_T1w.nii.gz",
            "derivatives/p/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
            "derivatives/p/sub-01/anat/sub-01_dseg.nii.gz",
        )
        assert sources.bids(dataset).rows[0].image.name == "sub-01_desc-preproc_T1w.nii.gz"

    def test_what_would_have_to_be_guessed_is_left_out(self, tools, dataset):
        self.put(
            tools,
            dataset,
            "sub-01/anat/sub-01_run-1_T1w.nii.gz",
            "sub-01/anat/sub-01_run-2_T1w.nii.gz",
            "sub-02/anat/sub-02_T1w.nii.gz",
            "sub-03/anat/sub-03_T1w.nii.gz",
            "sub-04/anat/sub-04_T2w.nii.gz",
            "derivatives/m/sub-01/anat/sub-01_dseg.nii.gz",
            "derivatives/m/sub-03/anat/sub-03_dseg.nii.gz",
        )
        listing = sources.bids(dataset)
        assert [row.subject for row in listing.rows] == ["sub-03"]
        reasons = {one.subject: one.reason for one in listing.left_out}
        assert reasons["sub-01"].startswith("2 images and 1 label maps to choose from")
        assert "no label map" in reasons["sub-02"] and reasons["sub-04"] == "there is no T1w image"

    def test_an_image_takes_no_label_map_of_another(self, tools, dataset):
        self.put(
            tools,
            dataset,
            "sub-01/anat/sub-01_acq-a_T1w.nii.gz",
            "sub-02/anat/sub-02_acq-a_T1w.nii.gz",
            "sub-02/anat/sub-02_acq-b_T1w.nii.gz",
            "sub-03/anat/sub-03_acq-a_T1w.nii.gz",
            "sub-04/anat/sub-04_T1w.nii.gz",
            "derivatives/m/sub-01/anat/sub-01_acq-b_dseg.nii.gz",
            "derivatives/m/sub-02/anat/sub-02_acq-b_dseg.nii.gz",
            "derivatives/m/sub-03/anat/sub-03_acq-a_dseg.nii.gz",
            "derivatives/m/sub-03/anat/sub-03_acq-b_dseg.nii.gz",
            "derivatives/m/sub-04/anat/sub-04_space-T1w_seg-tissue_dseg.nii.gz",
        )
        listing = sources.bids(dataset)
        assert [(row.image.name, row.label.name) for row in listing.rows] == [
            ("sub-02_acq-b_T1w.nii.gz", "sub-02_acq-b_dseg.nii.gz"),
            ("sub-03_acq-a_T1w.nii.gz", "sub-03_acq-a_dseg.nii.gz"),
            ("sub-04_T1w.nii.gz", "sub-04_space-T1w_seg-tissue_dseg.nii.gz"),
        ]
        (left,) = listing.left_out
        assert left.subject == "sub-01" and "differ in an entity such as acq or run" in left.reason

    def test_refusals(self, tools, dataset, tmp_path):
        with pytest.raises(ImportScanError, match="not a BIDS dataset: it has no readable"):
            sources.bids(tmp_path)
        (tmp_path / "dataset_description.json").write_text("[]")
        with pytest.raises(ImportScanError, match="names no BIDSVersion"):
            sources.bids(tmp_path)
        with pytest.raises(ImportScanError, match="name the derivatives that hold the labels; there are none"):
            sources.bids(dataset)
        for name in ("a", "b"):
            (dataset / "derivatives" / name).mkdir(parents=True)
        with pytest.raises(ImportScanError, match="there are a, b"):
            sources.bids(dataset)
        with pytest.raises(ImportScanError, match="no derivatives 'c'; it has a, b"):
            sources.bids(dataset, derivatives="c")
        with pytest.raises(ImportScanError, match="holds no scan that can be imported"):
            sources.bids(dataset, derivatives="a")
