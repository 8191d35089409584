"""What was written is what is read, from only the blocks that are touched; what is damaged is named."""

import os
import shutil
import sqlite3
import threading
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zstandard
from consortium import database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import computation.scans
from computation.errors import StoreError
from computation.scans.store import blocks, schema
from computation.scans.store.blocks import Box
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.opening import open_store
from computation.scans.store.records import Native, Scan

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=14)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def crc(data, block, kind="image", scan=1):
    """The checksum that a block in this place should have: from the schema's words, not from the code."""
    return zlib.crc32(data, zlib.crc32(f"{scan}/{kind}/{block}".encode()))


def whole(scan):
    return (0, 0, 0), scan.shape


@QUICK
@given(st.data(), SHAPES, st.integers(1, 9), st.sampled_from(blocks.DTYPES), st.sampled_from(["uint8", "int16"]))
def test_read_of_write_is_exact(tools, data, shape, side, dtype, label_type):
    """For every type, shape and block size, whole and in part."""
    usual = {"allow_nan": False, "allow_infinity": False} if dtype == "float32" else {}
    image = data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **usual)))
    label = data.draw(hnp.arrays(label_type, shape, elements=st.integers(0, 2)))
    image.flat[0], image.flat[-1] = 1, 3
    one = tools.entry(image=image, label=label, scheme="none")
    origin = tuple(data.draw(st.integers(0, length - 1)) for length in shape)
    size = tuple(data.draw(st.integers(1, length - start)) for length, start in zip(shape, origin, strict=True))
    with open_store(tools.database([one], block_side=side, normalisation="none")) as store:
        (scan,) = store.scans()
        assert store.stored(scan, "image", Box(*whole(scan))).tobytes() == image.tobytes()
        assert (store.stored(scan, "image", Box(*whole(scan))).dtype, scan.dtype) == (image.dtype, dtype)
        part, part_label = store.read(scan, origin, size)
        here = Box(origin, size).slices()
        assert (part == image[here].astype(np.float32)).all() and part.shape == size
        assert (part_label == label[here]).all() and part_label.dtype == label.dtype
        store.verify(scan)


@pytest.mark.parametrize("replace", [shutil.copyfile, shutil.move], ids=["written over", "another in its place"])
def test_a_file_that_changes_while_it_is_open_gives_nobody_else_s_voxels(tmp_path, replace):
    """Counts of a few people's scans, held against those of the round before, would tell theirs."""
    path, other = database(tmp_path / "site.db"), database(tmp_path / "other.db", seed=7, side=16)
    with open_store(path) as store:
        scans = store.scans()
        kept = store.read(scans[0], *whole(scans[0]))
        replace(other, path)
        with pytest.raises(ScanFault) as told:
            store.read(scans[1], *whole(scans[1]))
        assert told.value.fault is Fault.CHANGED and "written to while it was in use" in told.value.public
        # What had been read before is what it was.
        assert all((new == old).all() for new, old in zip(store.read(scans[0], *whole(scans[0])), kept, strict=True))
    with open_store(path) as store:
        assert store.scans()[0].shape == (16, 16, 16)


def test_everything_that_is_known_of_a_scan_comes_back(tools):
    native = Native((5, 6, 7), tuple(tuple(row) for row in (np.eye(4) * 0.1 + 0.3).tolist()), 4, 1, "mm")
    first = tools.entry("anna", "train", session="2", native=native, slope=0.5)
    image, _ = tools.head((9, 9, 9))
    second = tools.entry("bernd", "test", image=image)
    with open_store(tools.database([first, second], split={"seed": 4})) as store:
        anna, bernd = store.scans()
        assert (store.format, store.label_names, store.normalisation) == ("meshnet", tools.names, "quantile")
        assert (anna.key, anna.subject, anna.session, anna.split) == (1, "anna", "2", "train")
        assert (anna.shape, anna.spacing, anna.affine) == ((20, 18, 22), (2, 2, 2), first.affine)
        assert (anna.low, anna.high, anna.native, anna.labelled) == (first.low, first.high, native, True)
        assert (bernd.session, bernd.labelled, bernd.native) == ("", False, None)
        assert store.scans("test") == (bernd,) and store.scans("valid") == ()
        assert store.meta["split"] == {"seed": 4}
        image, label = store.read(bernd, (0, 0, 0), (2, 2, 2))
        assert label is None and image.shape == (2, 2, 2)


@given(order=st.permutations(range(3)), signs=st.tuples(*[st.sampled_from([-1, 1])] * 3), tilt=st.floats(-0.3, 0.3))
def test_the_axes_of_a_scan_are_named_as_nibabel_names_them(order, signs, tilt):
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(signs) * (1.0, 2.0, 3.0))[list(order)] + tilt * np.eye(3)[::-1]
    scan = Scan(1, "s", "", "train", (2, 2, 2), (1, 2, 3), tuple(map(tuple, affine)), "uint8", 0, 1, False)
    assert scan.axes == "".join(nib.aff2axcodes(affine))
    rows = [order.index(column) for column in range(3)]
    assert scan.axes == "".join(("LR", "PA", "IS")[row][signs[column] > 0] for column, row in enumerate(rows))


def test_reading_normalises(tools):
    one = tools.entry()
    with open_store(tools.database([one])) as store:
        (scan,) = store.scans()
        found = store.read_image(scan, *whole(scan))
    wanted = np.clip((one.image.astype(float) - one.low) / (one.high - one.low), 0, 1) * (one.image > 0)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_only_the_touched_blocks_are_decompressed(tools, monkeypatch):
    seen = []
    real = blocks.unpack
    monkeypatch.setattr(blocks, "unpack", lambda *given: seen.append(1) or real(*given))
    image, label = tools.head((32, 32, 32))
    with open_store(tools.database([tools.entry(image=image, label=label)], block_side=8)) as store:
        (scan,) = store.scans()
        store.read(scan, (0, 0, 0), (8, 8, 8))
        assert len(seen) == 2
        store.read(scan, (7, 8, 15), (2, 8, 9))
        assert len(seen) == 2 + 2 * (2 * 1 * 2)


def test_the_foreground_index_counts_without_reading_a_voxel(tools, monkeypatch):
    monkeypatch.setattr(blocks, "unpack", None)
    image, label = tools.head((20, 18, 22))
    with open_store(tools.database([tools.entry(image=image, label=label), tools.entry("s2", image=image)])) as store:
        for scan, volume in zip(store.scans(), (label, image), strict=True):
            found = store.foreground(scan)
            assert found.shape == (3, 3, 3)
            padded = np.zeros((24, 24, 24), bool)
            padded[:20, :18, :22] = volume > 0
            assert (found == padded.reshape(3, 8, 3, 8, 3, 8).sum(axis=(1, 3, 5))).all()


def test_one_store_is_read_from_many_threads(tools):
    entries = [tools.entry(f"s{index}", image=tools.head(seed=index)[0]) for index in range(4)]
    wrong = []
    with open_store(tools.database(entries)) as store:

        def work(number):
            for step in range(20):
                scan = store.scans()[(number + step) % 4]
                found = store.stored(scan, "image", Box(*whole(scan)))
                if (found != entries[scan.key - 1].image).any():
                    wrong.append(scan.key)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_closed_store_says_so_also_to_new_threads(tools):
    store = open_store(tools.database())
    (scan,) = store.scans()
    store.close()
    caught = []

    def work():
        with pytest.raises(StoreError, match="already been closed"):
            store.read(scan, (0, 0, 0), (2, 2, 2))
        caught.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught


@pytest.mark.parametrize("name", ['it\'s "a" site.db', "Größe äöü 脳.db", "a?b#c%20d&mode=rw.db"])
def test_any_path_will_do(tools, name):
    path = tools.folder() / name
    tools.database(path=path)
    with open_store(str(path)) as store:
        assert len(store.scans()) == 1


def test_a_read_leaves_nothing_beside_the_file_and_needs_no_right_to_write(tools):
    path = tools.database()
    before = path.read_bytes()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        with open_store(path) as store:
            store.read(store.scans()[0], (0, 0, 0), (4, 4, 4))
            assert [entry.name for entry in path.parent.iterdir()] == ["site.db"]
    finally:
        path.parent.chmod(0o755)
    assert path.read_bytes() == before


def test_no_module_of_this_room_fetches_all_rows_or_unpickles():
    for path in Path(computation.scans.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "fetchall(" not in text and "pickle" not in text and "torch.load" not in text


class TestBadDatabase:
    """Each fault is named in words that hold no path and no subject."""

    def refusal(self, path):
        """Return the one named error that opening ends in."""
        with pytest.raises(StoreError) as caught:
            open_store(path)
        assert path.parent.name not in caught.value.public and "anna" not in caught.value.public
        return caught.value.public

    def test_missing(self, tmp_path):
        assert "the scan database is missing; check the `data` setting" in self.refusal(tmp_path / "none.db")

    def test_a_folder(self, tmp_path):
        (tmp_path / "site.db").mkdir()
        assert "the scan database is missing" in self.refusal(tmp_path / "site.db")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tools):
        path = tools.database()
        path.chmod(0)
        assert "check its permissions" in self.refusal(path)

    def test_unreadable_as_sqlite_reports_it(self, tools, monkeypatch):
        """The same for root, who may read everything: SQLite's own words for it."""
        path = tools.database()

        def refuse(*given, **named):
            raise sqlite3.OperationalError("unable to open database file")

        monkeypatch.setattr(schema.sqlite3, "connect", refuse)
        assert "the scan database cannot be opened; check its permissions" in self.refusal(path)

    @pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n" * 40, b"\x1f\x8b" * 600])
    def test_not_sqlite(self, tmp_path, content):
        (tmp_path / "site.db").write_bytes(content)
        found = self.refusal(tmp_path / "site.db")
        assert "is not a SQLite file, or is damaged; build it with `coinstac-meshnet import`" in found

    @pytest.mark.parametrize("statements", [[], ["CREATE TABLE notes (text)"]])
    def test_sqlite_but_no_scans(self, tools, tmp_path, statements):
        path = tools.spoil(tmp_path / "site.db", *statements)
        assert "neither our schema nor the peer's table" in self.refusal(path)

    @pytest.mark.parametrize(("version", "todo"), [(7, "update this software"), (0, "import the scans again")])
    def test_another_version(self, tools, version, todo):
        found = self.refusal(tools.spoil(tools.database(), f"PRAGMA user_version = {version}"))
        assert found == f"the scan database has schema version {version}, this software reads 1 and 2; {todo}"

    @pytest.mark.parametrize(
        ("statement", "message"),
        [
            ("DROP TABLE volumes", "damaged"),
            ("DELETE FROM meta WHERE name = 'label_names'", "malformed label_names"),
            ("UPDATE meta SET value = '[\"' WHERE name = 'label_names'", "malformed label_names"),
            ("UPDATE meta SET value = '\"median\"' WHERE name = 'normalisation'", "unknown normalisation"),
            ("UPDATE meta SET value = '0' WHERE name = 'block_side'", "malformed block_side"),
            ("UPDATE scans SET shape = '[1, 2]'", "malformed shape"),
            ("UPDATE scans SET shape = '[1000000, 1000000, 1000000]'", "malformed shape"),
            ("UPDATE scans SET shape = '[4000, 4000, 4000]'", "malformed shape"),
            ("UPDATE scans SET affine = '[[1]]'", "malformed affine"),
            ("UPDATE scans SET notes = '{\"stripped\": 1}'", "malformed notes"),
            ('UPDATE scans SET notes = \'{"warnings": "odd"}\'', "malformed notes"),
            ("UPDATE scans SET affine = '[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,1]]'", "malformed affine"),
            ("UPDATE scans SET high = low", "malformed scan"),
            ("UPDATE scans SET low = 'abc'", "malformed scan"),
            ("UPDATE scans SET native = '{}'", "malformed native shape"),
            ("UPDATE volumes SET dtype = 'object' WHERE kind = 'image'", "malformed volume"),
            ("UPDATE volumes SET codec = 'gzip'", "malformed volume"),
            ("UPDATE volumes SET slope = 0", "malformed volume"),
            ("UPDATE volumes SET foreground = x'00'", "malformed volume"),
            ("UPDATE volumes SET dtype = 'float32' WHERE kind = 'label'", "labels of a wrong type"),
            ("DELETE FROM volumes WHERE kind = 'image'", "a scan without an image"),
        ],
    )
    def test_malformed_tables(self, tools, statement, message):
        assert message in self.refusal(tools.spoil(tools.database([tools.entry("anna")]), statement))

    @pytest.mark.parametrize("key", ["'one'", "NULL", "1.5", "x'31'"])
    @pytest.mark.parametrize("table", ["scans", "volumes"])
    def test_a_key_of_another_type_in_a_table_without_constraints(self, tools, table, key):
        loose = (f"CREATE TABLE loose AS SELECT * FROM {table}", f"UPDATE loose SET scan = {key}")
        named = (f"DROP TABLE {table}", f"ALTER TABLE loose RENAME TO {table}")
        assert f"malformed {table[:-1]}" in self.refusal(tools.spoil(tools.database(), *loose, *named))


class TestBadScan:
    def fault(self, path):
        """Read everything; expect one named fault."""
        with open_store(path) as store:
            scan = store.scans()[0]
            with pytest.raises(ScanFault) as caught:
                store.read(scan, *whole(scan))
            with pytest.raises(ScanFault):
                store.verify(scan)
        assert "s1" not in caught.value.public and "s1" in caught.value.private and "scan 1" in caught.value.private
        return caught.value

    def longest(self, path):
        connection = sqlite3.connect(path)
        row = connection.execute("SELECT block, data FROM blocks ORDER BY length(data) DESC LIMIT 1").fetchone()
        connection.close()
        return row

    def test_one_flipped_byte_names_scan_block_and_checksum(self, tools):
        path = tools.database()
        block, data = self.longest(path)
        bad = bytes([*data[:-1], data[-1] ^ 4])
        tools.spoil(path, ("UPDATE blocks SET data = ? WHERE block = ?", (bad, block)))
        fault = self.fault(path)
        assert fault.fault is Fault.CHECKSUM and "stored checksum" in fault.public
        assert f"image: block {block}: CRC-32 {crc(bad, block):#010x}, stored {crc(data, block):#010x}" in fault.private

    def test_two_volumes_that_claim_the_same_blocks(self, tools):
        path = tools.spoil(tools.database(), "UPDATE volumes SET first = 0")
        with open_store(path) as store:
            (scan,) = store.scans()
            store.read_image(scan, *whole(scan))
            with pytest.raises(ScanFault) as caught:
                store.read_label(scan, *whole(scan))
        assert caught.value.fault == Fault.CHECKSUM

    def test_a_sound_block_in_another_blocks_place(self, tools):
        """Both rows are intact; only their places are exchanged."""
        path = tools.database()
        tools.spoil(
            path,
            "CREATE TEMP TABLE t AS SELECT * FROM blocks WHERE block IN (13, 14)",
            "UPDATE blocks SET crc32 = (SELECT crc32 FROM t WHERE t.block = 27 - blocks.block), "
            "data = (SELECT data FROM t WHERE t.block = 27 - blocks.block) WHERE block IN (13, 14)",
        )
        assert self.fault(path).fault is Fault.CHECKSUM

    def test_a_volume_that_points_at_another_scans_blocks(self, tools):
        image, _ = tools.head(seed=1)
        path = tools.database([tools.entry(), tools.entry("s2", image=image, label=tools.head()[1])])
        tools.spoil(path, "UPDATE volumes SET first = 54 WHERE scan = 1 AND kind = 'image'")
        assert self.fault(path).fault is Fault.CHECKSUM

    def test_a_truncated_block(self, tools):
        path = tools.database()
        block, data = self.longest(path)
        short = data[: len(data) // 2]
        tools.spoil(path, ("UPDATE blocks SET data = ?, crc32 = ? WHERE block = ?", (short, crc(short, block), block)))
        assert self.fault(path).fault in (Fault.CORRUPT, Fault.TRUNCATED)

    def test_a_block_cut_to_nothing(self, tools):
        path = tools.database()
        block, _ = self.longest(path)
        tools.spoil(path, f"UPDATE blocks SET data = x'', crc32 = 0 WHERE block = {block}")
        fault = self.fault(path)
        assert fault.fault is Fault.TRUNCATED and "another size than its place" in fault.public

    def test_a_block_of_another_size(self, tools):
        path = tools.database()
        block, _ = self.longest(path)
        other = zstandard.compress(bytes(10))
        tools.spoil(path, ("UPDATE blocks SET data = ?, crc32 = ? WHERE block = ?", (other, crc(other, block), block)))
        assert self.fault(path).fault is Fault.TRUNCATED

    @pytest.mark.parametrize("block", [0, 13, 26])
    def test_a_missing_block(self, tools, block):
        path = tools.spoil(tools.database(), f"DELETE FROM blocks WHERE block = {block}")
        fault = self.fault(path)
        assert fault.fault is Fault.MISSING and f"block {block}" in fault.private

    def test_cells_of_another_type(self, tools):
        path = tools.spoil(tools.database(), "UPDATE blocks SET data = 'text' WHERE block = 13")
        assert self.fault(path).fault is Fault.CORRUPT

    def test_swapped_blocks_of_equal_size_are_found_by_verify(self, tools):
        image, label = tools.head((16, 16, 16))
        path = tools.database([tools.entry(image=image, label=label)])
        tools.spoil(
            path,
            "UPDATE blocks SET block = 99 WHERE block = 0",
            "UPDATE blocks SET block = 0 WHERE block = 1",
            "UPDATE blocks SET block = 1 WHERE block = 99",
        )
        with open_store(path) as store, pytest.raises(ScanFault, match="stored checksum"):
            store.verify(store.scans()[0])

    @pytest.mark.parametrize("column", ["subject = 's1'", "low = low / 2", 'source = \'{"image":"0"}\''])
    def test_a_changed_row_is_found_by_verify(self, tools, column):
        path = tools.database([tools.entry("x1")])
        tools.spoil(
            path, "UPDATE subjects SET subject = 's1'", "UPDATE scans SET subject = 's1'", f"UPDATE scans SET {column}"
        )
        with open_store(path) as store, pytest.raises(ScanFault, match="stored checksum"):
            store.verify(store.scans()[0])

    def test_a_changed_foreground_index_is_found_by_verify(self, tools):
        path = tools.spoil(tools.database(), ("UPDATE volumes SET foreground = ?", (bytes(4 * 27),)))
        with open_store(path) as store, pytest.raises(ScanFault, match="stored checksum") as caught:
            store.verify(store.scans()[0])
        assert "foreground" in caught.value.private

    def test_labels_outside_the_class_list(self, tools):
        path = tools.spoil(tools.database(), "UPDATE meta SET value = '[\"a\",\"b\"]' WHERE name = 'label_names'")
        with open_store(path) as store, pytest.raises(ScanFault, match="outside the class list") as caught:
            store.read(store.scans()[0], *whole(store.scans()[0]))
        assert caught.value.fault is Fault.LABEL and "values 0 to 2, classes 0 to 1" in caught.value.private

    def test_voxels_that_are_not_finite(self, tools):
        image = tools.head()[0].astype(np.float32)
        path = tools.database([tools.entry(image=image)])
        for bad in (np.nan, np.inf):
            block = image[8:16, 8:16, 8:16].copy()
            block[0, 0, 0] = bad
            data, crc32 = blocks.encode(block, "zstd+shuffle", blocks.place(1, "image", 13))
            tools.spoil(path, ("UPDATE blocks SET data = ?, crc32 = ? WHERE block = 13", (data, crc32)))
            fault = self.fault(path)
            assert fault.fault is Fault.FINITE and "NaN or infinite" in fault.public

    @pytest.mark.parametrize(
        ("origin", "size"),
        [((0, 0, 0), (64, 64, 64)), ((-1, 0, 0), (2, 2, 2)), ((19, 0, 0), (2, 2, 2)), ((0,) * 3, (0, 2, 2))],
    )
    def test_a_box_outside_the_volume(self, tools, origin, size):
        with (
            open_store(tools.database()) as store,
            pytest.raises(ScanFault, match="does not lie inside the scan") as caught,
        ):
            store.read(store.scans()[0], origin, size)
        assert caught.value.fault is Fault.OUTSIDE

    def test_no_label(self, tools):
        image, _ = tools.head()
        with (
            open_store(tools.database([tools.entry(image=image)])) as store,
            pytest.raises(ScanFault, match="no label map"),
        ):
            store.read_label(store.scans()[0], (0, 0, 0), (2, 2, 2))

    def test_a_file_cut_short_is_one_named_error(self, tools):
        """Wherever it is cut: the store refuses it, or a scan does."""
        path = tools.database([tools.entry(f"s{index}", image=tools.head(seed=index)[0]) for index in range(6)])
        content = path.read_bytes()
        for end in range(0, len(content), max(1, len(content) // 40)):
            path.write_bytes(content[:end])
            try:
                with open_store(path) as store:
                    for scan in store.scans():
                        store.verify(scan)
            except (StoreError, ScanFault):
                continue
            raise AssertionError(f"{end} of {len(content)} bytes were accepted")
