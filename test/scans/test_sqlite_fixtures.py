"""The demo sites: equal to the byte when built again, different from each other, and what they claim to be."""

import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.store.opening import open_store
from sqlite_fixtures import build as fixtures

pytest.importorskip("nilearn")

FEW = fixtures.Subjects(train=2, valid=1, test=1)


@pytest.fixture(scope="module")
def built(tools):
    folder = tools.folder()
    return folder, fixtures.build(folder, subjects=FEW, spacing_mm=6, seed=1)


def test_two_builds_are_equal_to_the_byte(built, tools):
    again = fixtures.build(tools.folder(), subjects=FEW, spacing_mm=6, seed=1)
    assert [path.read_bytes() for path in built[1]] == [path.read_bytes() for path in again]


def test_they_lie_where_the_simulator_looks(built):
    folder, paths = built
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "local0/simulatorRun/site.db",
        "local1/simulatorRun/site.db",
    ]


def test_each_site_holds_sound_scans_of_three_tissues(built):
    for path in built[1]:
        with open_store(path) as store:
            assert store.label_names == ("background", "white matter", "grey matter")
            assert store.meta["provenance"]["made"] == "from the MNI152 template, not from people"
            assert [len(store.scans(part)) for part in ("train", "valid", "test")] == [2, 1, 1]
            for scan in store.scans():
                store.verify(scan)
                assert (scan.shape, scan.spacing) == ((36, 36, 36), (6, 6, 6))
                image, label = store.read(scan, (0, 0, 0), scan.shape)
                means = [image[label == tissue].mean() for tissue in range(3)]
                assert means[0] < 0.1 < means[2] < means[1], "white matter is brighter than grey in T1"
                white, grey = (np.count_nonzero(label == tissue) * 0.216 for tissue in (1, 2))
                assert 300 < white < 1000 and 600 < grey < 1600, "millilitres of an adult brain"


def test_subjects_and_sites_differ(built):
    volumes = []
    for path in built[1]:
        with open_store(path) as store:
            volumes += [store.read_label(scan, (0, 0, 0), scan.shape) for scan in store.scans()]
    for index, one in enumerate(volumes):
        assert all((one != other).any() for other in volumes[:index])
    scanners = [fixtures.site_of(index, 1) for index in range(2)]
    assert scanners[0].gamma < 1 < scanners[1].gamma


def test_without_nilearn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(fixtures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportScanError, match="needs the nilearn package; install this software with its `demo` extra"):
        fixtures.load_template()


def test_another_seed_makes_other_people(built, tools):
    (other,) = fixtures.build(tools.folder(), sites=1, subjects=FEW, spacing_mm=6, seed=2)
    assert other.read_bytes() != built[1][0].read_bytes()
