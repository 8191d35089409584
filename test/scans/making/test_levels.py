"""A few extreme voxels must not take a head's grey levels away: scaled without them, or told, or refused."""

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import images, levels, lia
from computation.scans.making.conform import Conformed
from computation.scans.making.ingest import import_table
from computation.scans.store import normalise
from computation.scans.store.opening import open_store
from computation.scans.store.records import affine_of


def brain(shape=(40, 40, 40), seed=0):
    """A head of 450 to 700 in air of 0."""
    generator = np.random.default_rng(seed)
    voxels = np.zeros(shape, np.float32)
    voxels[5:-5, 5:-5, 5:-5] = generator.integers(450, 701, tuple(side - 10 for side in shape))
    return voxels


def spoilt(*values, seed=0):
    voxels = brain(seed=seed)
    for place, value in enumerate(values):
        voxels[10, 10, 10 + place] = value
    return voxels


def imported(tools, voxels, **how):
    folder = tools.folder()
    affine = np.diag([4.0, 4, 4, 1])
    tools.nifti(folder / "t1.nii.gz", voxels, affine)
    tools.nifti(folder / "seg.nii.gz", (brain() > 0).astype(np.uint8), affine)
    (folder / "t.csv").write_text("subject,image,label\na,t1.nii.gz,seg.nii.gz")
    (scan,) = import_table(folder / "t.csv", folder / "site.db", spacing=4.0, grid=40, **how).taken
    with open_store(folder / "site.db") as store:
        (held,) = store.scans()
        return scan.warnings, store.read(held, (0, 0, 0), held.shape)[0]


@pytest.mark.parametrize("how", [{"like": "freesurfer"}, {"storage": "12bit"}, {"storage": "8bit"}])
@pytest.mark.parametrize("scheme", ["quantile", "min-max", "z-score"])
@pytest.mark.parametrize("values", [(1e6, 1e6, 1e6), (1e6, -1e6), (1e6, -3), (-1e6,)])
def test_outliers_cost_no_levels(tools, how, scheme, values):
    """The head looks as it does without them, to a level or two of eight bits."""
    _, wanted = imported(tools, spoilt(600, 601, 602), normalisation=scheme, **how)
    told, found = imported(tools, spoilt(*values), normalisation=scheme, **how)
    assert not any("grey levels" in text for text in told)
    assert f"{sum(abs(value) > 9 for value in values)} voxels lie far beyond all others, up to" in " ".join(told)
    apart = np.abs(found - wanted)
    apart[10, 10, 10:13] = 0
    if how.get("like"):
        apart[apart.shape[0] - 11, :, :] = apart[:, 29, :] = 0
    assert np.unique(found[found != 0]).size > 50
    # The smallest voxel is what min-max is about; -3 is no outlier.
    assert np.quantile(apart, 0.999) < 0.05 * np.ptp(wanted) or (scheme, values) == ("min-max", (1e6, -3))


def test_without_outliers_nothing_differs():
    head = brain()[brain() > 0]
    assert normalise.ordinary(head) == (450, 700)
    # Bright vessels and fat are none: seven times as bright as the brightest tissue.
    bright = np.append(head, [5000.0])
    assert normalise.ordinary(np.append(head, [3100.0])) == (450, 3100) and normalise.ordinary(bright) == (450, 700)


def test_freesurfers_scale_is_the_published_one_on_what_is_ordinary():
    plain, bad = brain(), spoilt(1e6, -1e6)
    bad[10, 10, 12] = 600
    plain[10, 10, 10:13] = 600
    inside = np.ones(plain.shape, bool)
    inside[10, 10, 10:13] = False
    one, other = lia.robust(plain, plain), lia.robust(bad, bad)
    assert np.abs(one[inside].astype(int) - other[inside]).max() <= 1
    assert other[10, 10, 10] == 255 and other[10, 10, 11] == 0


@pytest.mark.parametrize("storage", ["12bit", "8bit"])
def test_too_many_to_be_outliers_are_refused(tools, storage):
    """A hundredth of the head at 1e6: no rule can tell what is meant."""
    voxels = brain()
    voxels[5:8, 5:25, 5:25] = 1e6
    with pytest.raises(ImportScanError, match=r"only \d grey levels of the head would be left: extreme values set"):
        imported(tools, voxels, storage=storage)


def test_exact_storage_behind_a_spoilt_normalisation_is_refused_too(tools):
    """All levels are stored, but between 0 and 1 hardly any is left for a network."""
    voxels = brain()
    voxels[5:8, 5:25, 5:25] = 1e6
    with pytest.raises(ImportScanError, match=r"only \d grey levels of the head would be left"):
        imported(tools, voxels, storage="exact")


def test_what_has_few_levels_of_itself_is_taken_with_a_word(tools):
    """A phantom of three grey values, or a label map in the image's place."""
    voxels = np.zeros((40, 40, 40), np.int16)
    voxels[5:-5, 5:-5, 5:-5], voxels[12:-12, 12:-12, 12:-12], voxels[18:22, 18:22, 18:22] = 1, 2, 3
    told, _ = imported(tools, voxels)
    assert "the image has only 2 grey levels in the head; is it a mask, a label map or a phantom?" in told
    with pytest.raises(ImportScanError, match="empty or constant inside the head"):
        imported(tools, (voxels > 0).astype(np.int16))


def test_between_few_and_hopeless_it_is_told_and_of_a_handful_of_voxels_nothing():
    voxels = np.arange(1, 1001, dtype=np.float32).reshape(10, 10, 10)
    image = nib.Nifti1Image(voxels, np.eye(4))

    def told(step, cut=0.0):
        scan = Conformed(voxels, None, affine_of(np.eye(4).tolist()), cut)
        return levels.check(image, scan, np.rint(voxels / step).astype(np.uint8), step, 0.0, 1000.0)

    assert told(4.0) == ()
    assert told(50.0) == ("only 20 grey levels of the head are left; look for extreme values in the image",)
    with pytest.raises(ImportScanError, match="only 5 grey levels"):
        told(200.0)
    assert told(200.0, cut=0.5) == ()


class TestBeforeResampling:
    """What is wrong with an image is wrong on any grid."""

    @pytest.mark.parametrize("spacing", [2.0, 3.0, 1.7])
    def test_a_constant_image(self, tools, spacing):
        folder = tools.folder()
        table = tools.table(folder, 2)
        voxels = np.where(tools.head()[1] > 0, 700, 0).astype(np.int16)
        tools.nifti(folder / "1_t1.nii.gz", voxels, np.diag([2, 2, 2, 1]))
        (scan,) = import_table(table, folder / "site.db", spacing=spacing, grid=24).left_out
        assert scan.reason == "the image is empty or constant inside the head; leave this scan out"

    @pytest.mark.parametrize("place", [(0, 0, 0), (10, 9, 11), (10, 9, 10), (19, 17, 21)])
    @pytest.mark.parametrize(("spacing", "grid"), [(2.0, 24), (4.0, 12), (2.0, 6)])
    @pytest.mark.parametrize(("value", "reason"), [(9, "label values 9 are outside"), (0.4, "fractions such as 0.4;")])
    def test_a_stray_label_wherever_it_lies(self, tools, place, spacing, grid, value, reason):
        """On a voxel that the new grid steps over, or beside it."""
        folder = tools.folder()
        table = tools.table(folder, 2)
        label = tools.head(seed=1)[1].astype(np.float32)
        label[place] = value
        tools.nifti(folder / "1_seg.nii.gz", label, np.diag([2, 2, 2, 1]))
        (scan,) = import_table(table, folder / "site.db", spacing=spacing, grid=grid).left_out
        assert reason in scan.reason and scan.detail == str(folder / "1_seg.nii.gz")

    def test_labels_that_scaling_left_a_hair_off_are_rounded(self, tools):
        folder = tools.folder()
        table = tools.table(folder, 2)
        label = tools.head(seed=1)[1]
        image = nib.Nifti1Image(label.astype(np.float32) * 1.000015, np.diag([2.0, 2, 2, 1]))
        nib.save(image, folder / "1_seg.nii.gz")
        import_table(table, folder / "site.db", spacing=2.0, grid=24)
        with open_store(folder / "site.db") as store:
            found = store.read_label(store.scans()[1], (0, 0, 0), (24, 24, 24))
        assert (found[2:22, 3:21, 1:23] == label).all()

    def test_the_surroundings_of_a_label_map_are_background_even_if_its_set_knows_no_0(self, tools):
        folder = tools.folder()
        table = tools.table(folder, 1)
        tools.nifti(folder / "0_seg.nii.gz", tools.head()[1] + np.uint8(10), np.diag([2, 2, 2, 1]))
        entries = ", ".join(f'{{"name": "{name}", "colour": "#00000{place}"}}' for place, name in enumerate("abc"))
        text = f'{{"name": "mine", "classes": [{entries}], "sources": {{"tens": {{"10": 0, "11": 1, "12": 2}}}}}}'
        (folder / "set.json").write_text(text)
        summary = import_table(table, folder / "a.db", spacing=2.0, grid=30, label_set=f"{folder / 'set.json'}:tens")
        assert len(summary.taken) == 1


def test_storable_clips_outliers_at_the_last_level():
    stored, slope = images.storable(spoilt(1e6, -1e6) + np.float32(0.5), "12bit")
    assert slope == pytest.approx(700.5 / 4095, rel=1e-6) and stored[10, 10, 10] == 4095 and stored[10, 10, 11] == -4095
