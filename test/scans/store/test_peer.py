"""The peer's table read as it is; what it leaves open is refused, not guessed."""

import threading
import zlib
from collections import Counter

import numpy as np
import pytest

from computation.errors import StoreError
from computation.scans.store import peer
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.opening import open_store

SIDE = 12


def rows(tools, count=3, classes=3):
    """Cubes as the peer writes them: the image as it is, the label divided by (classes - 1)."""
    pairs = [tools.head((SIDE,) * 3, seed=index) for index in range(count)]
    return [(image.astype(np.float32), (label / (classes - 1)).astype(np.float32)) for image, label in pairs]


@pytest.fixture
def database(tools):
    return tools.peer(tools.folder() / "peer.db", rows(tools, 10))


def test_scans_of_the_table(database):
    with open_store(database) as store:
        assert (store.format, store.normalisation) == ("peer", "quantile")
        assert store.label_names == ("background", "white matter", "grey matter")
        scans = store.scans()
        assert [scan.key for scan in scans] == list(range(1, 11))
        assert {scan.shape for scan in scans} == {(SIDE,) * 3} and all(scan.labelled for scan in scans)
        assert Counter(scan.split for scan in scans) == {"train": 7, "valid": 2, "test": 1}
    with open_store(database) as again:
        assert again.scans() == scans, "the split is drawn the same whenever the file is opened"


def test_voxels_and_half_labels_come_back(tools, database):
    with open_store(database) as store:
        for scan in store.scans():
            wanted, wanted_label = tools.head((SIDE,) * 3, seed=scan.key - 1)
            image, label = store.read(scan, (0, 0, 0), scan.shape)
            assert (label == wanted_label).all() and label.dtype == np.uint8
            inside = wanted[wanted > 0].astype(np.float32)
            low, high = np.quantile(inside, [0.02, 0.98])
            np.testing.assert_allclose(image, np.clip((wanted - low) / (high - low), 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("origin", "size"), [((0, 0, 0), (3, 4, 5)), ((5, 2, 7), (4, 10, 5)), ((11, 11, 11), (1, 1, 1))]
)
def test_a_sub_volume_is_that_part_of_the_whole(database, origin, size):
    part = tuple(slice(start, start + length) for start, length in zip(origin, size, strict=True))
    with open_store(database) as store:
        scan = store.scans()[3]
        for found, whole in zip(store.read(scan, origin, size), store.read(scan, (0, 0, 0), scan.shape), strict=True):
            assert (found == whole[part]).all()


def test_pieces_smaller_than_a_plane_change_nothing(database, monkeypatch):
    with open_store(database) as store:
        scan = store.scans()[0]
        before = store.read_image(scan, (4, 0, 3), (5, 6, 7))
        monkeypatch.setattr(peer, "_PIECE", 13)
        assert (store.read_image(scan, (4, 0, 3), (5, 6, 7)) == before).all()


def test_a_row_is_inflated_only_as_far_as_needed(tools, monkeypatch):
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    path = tools.peer(tools.folder() / "p.db", [(noise, np.full(noise.shape, 0.5))])
    monkeypatch.setattr(peer, "_PIECE", 1024)
    given = []
    with open_store(path) as store:
        real = peer.PeerStore._inflated

        def counted(*arguments):
            for piece in real(*arguments):
                given.append(len(piece))
                yield piece

        monkeypatch.setattr(peer.PeerStore, "_inflated", counted)
        store.read_image(store.scans()[0], (0, 0, 0), (2, 40, 40))
    assert sum(given) < 3 * 40 * 40 * 4


def test_whole_number_labels_are_taken_as_they_are(tools):
    image, label = tools.head((SIDE,) * 3)
    path = tools.peer(tools.folder() / "p.db", [(image, label)])
    with open_store(path) as store:
        assert (store.read_label(store.scans()[0], (0, 0, 0), (SIDE,) * 3) == label).all()


def test_the_label_column_needs_class_names(tools):
    image, label = tools.head((SIDE,) * 3)
    names = ("none", "a", "b", "c")
    path = tools.peer(tools.folder() / "p.db", [(image, label * 1.5 / 3)], columns=("Image", "label"))
    with pytest.raises(StoreError, match="column 'label' does not say its classes; name them in the settings"):
        open_store(path)
    with pytest.raises(StoreError, match="neither class numbers 0 to 3 nor these divided by 3"):
        open_store(path, classes=names)
    path = tools.peer(tools.folder() / "q.db", [(image, label / 3)], columns=("Image", "label"))
    with open_store(path, classes=names) as store:
        assert store.label_names == names
        assert (store.read_label(store.scans()[0], (0, 0, 0), (SIDE,) * 3) == label).all()


def test_tissue_labels_come_before_the_label_column(tools):
    image, label = tools.head((SIDE,) * 3)
    cells = [(image, np.full(image.shape, 77), label / 2)]
    path = tools.peer(tools.folder() / "p.db", cells, columns=("Image", "label", "GWlabels"))
    with open_store(path) as store:
        assert len(store.label_names) == 3


def test_any_table_with_the_columns_will_do_if_it_is_the_only_one(tools):
    path = tools.peer(tools.folder() / "p.db", rows(tools), table="hospital")
    tools.spoil(path, "CREATE TABLE notes (text)")
    with open_store(path) as store:
        assert len(store.scans()) == 3
    tools.peer(path, rows(tools, 1), table="other")
    with pytest.raises(StoreError, match="several scan tables; name the one to read"):
        open_store(path)
    with open_store(path, table="other") as store:
        assert len(store.scans()) == 1


@pytest.mark.parametrize("name", ['a"b', "scans; DROP TABLE notes", "it's", "x' OR '1'='1", "Hirn ä", "select"])
def test_hostile_names_are_only_names(tools, name):
    path = tools.peer(tools.folder() / "p.db", rows(tools, 1), table=name)
    tools.spoil(path, "CREATE TABLE notes (text)")
    with open_store(path, table=name) as store:
        assert store.read(store.scans()[0], (0, 0, 0), (2, 2, 2))[0].shape == (2, 2, 2)
    for wrong in ("none", f'{name}" --', "sqlite_master", "notes"):
        with pytest.raises(StoreError, match="neither our schema nor the peer's table"):
            open_store(path, table=wrong)


def test_reads_from_another_thread(database):
    found = []
    with open_store(database) as store:
        thread = threading.Thread(target=lambda: found.append(store.read(store.scans()[0], (0, 0, 0), (2, 2, 2))))
        thread.start()
        thread.join()
    assert len(found) == 1


HEAD = np.pad(np.arange(1, 28, dtype=np.float32).reshape(3, 3, 3), 1)
HALVES = np.where(HEAD > 14, 1, np.where(HEAD > 0, 0.5, 0))


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (HEAD, np.minimum(HALVES * 2, 1), "only 0 and 1 could be class numbers or fractions of 2; relabel the row"),
        (HEAD, HALVES * 6, "labels from 0 to 6, wanted class numbers 0 to 2"),
        (HEAD, HALVES - 1, "labels from -1 to 0"),
        (HEAD, HALVES * 0.9, "neither class numbers 0 to 2 nor these divided by 2"),
        (HEAD, HALVES * 3, "neither class numbers"),
        (HEAD, HALVES * np.nan, "labels that are NaN or infinite"),
        (np.where(HEAD > 0, np.inf, 0), HALVES, "NaN or infinite"),
        (HEAD * 0, HALVES, "empty or constant"),
        (HEAD[1:], HALVES, "a volume of 400 bytes is not a cube of float32"),
        (HEAD, HALVES[1:-1, 1:-1, 1:-1], "image and label have different sizes"),
        (zlib.compress(b"abc"), HALVES, "a volume of 3 bytes is not a cube"),
        (zlib.compress(b""), HALVES, "a volume of 0 bytes is not a cube"),
        (b"not zlib", HALVES, "cannot be decompressed"),
        (zlib.compress(HEAD.tobytes())[:-9], HALVES, "cannot be decompressed"),
    ],
)
def test_anything_damaged_or_ambiguous_is_refused(tools, image, label, message):
    good = (HEAD, HALVES)
    path = tools.peer(tools.folder() / "p.db", [good, (image, label)])
    with pytest.raises(StoreError, match=message) as caught:
        open_store(path)
    assert "row 2 of the peer's table" in caught.value.public
    assert str(path) not in caught.value.public


def test_all_zero_labels_are_not_ambiguous(tools):
    path = tools.peer(tools.folder() / "p.db", [(HEAD, HALVES * 0)])
    with open_store(path) as store:
        assert not store.read_label(store.scans()[0], (0, 0, 0), (5, 5, 5)).any()


def test_zero_and_one_of_two_classes_are_not_ambiguous(tools):
    path = tools.peer(tools.folder() / "p.db", [(HEAD, np.ceil(HALVES))], columns=("Image", "label"))
    with open_store(path, classes=("none", "head")) as store:
        assert (store.read_label(store.scans()[0], (0, 0, 0), (5, 5, 5)) == (HEAD > 0)).all()


def test_an_empty_table(tools):
    with pytest.raises(StoreError, match="the peer's table holds no rows"):
        open_store(tools.peer(tools.folder() / "p.db", []))


def test_text_in_place_of_a_blob(tools):
    path = tools.spoil(tools.peer(tools.folder() / "p.db", [(HEAD, HALVES)]), "UPDATE mindboggle101 SET Image = 'x'")
    with pytest.raises(StoreError, match="row 1 of the peer's table: a block of a scan cannot be decompressed"):
        open_store(path)


def test_as_many_class_names_as_the_column_has_classes(tools):
    path = tools.peer(tools.folder() / "p.db", [(HEAD, HALVES)])
    with pytest.raises(StoreError, match="GWlabels column has 3 classes, the settings name 2"):
        open_store(path, classes=("a", "b"))


def test_a_box_outside(database):
    with open_store(database) as store, pytest.raises(ScanFault) as caught:
        store.read(store.scans()[0], (0, 0, 0), (SIDE + 1,) * 3)
    assert caught.value.fault is Fault.OUTSIDE


def test_one_row_at_a_time_is_in_memory(tools, monkeypatch):
    """The peer's own loader keeps the whole table; ours never asks for more than one cell."""
    path = tools.peer(tools.folder() / "p.db", rows(tools, 5))
    asked = []
    real = peer.schema.connect

    def watched(where, *given):
        connection = real(where, *given)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(peer.schema, "connect", watched)
    with open_store(path) as store:
        store.read(store.scans()[0], (0, 0, 0), (2, 2, 2))
    cells = [query for query in asked if '"Image"' in query or '"GWlabels"' in query]
    assert len(cells) == 2 * 5 + 2 and all("WHERE rowid =" in query for query in cells)
