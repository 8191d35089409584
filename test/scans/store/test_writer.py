"""A database appears whole or not at all, and equal input gives equal bytes."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.store import schema, writer
from computation.scans.store.opening import open_store


def test_equal_input_gives_equal_bytes(tools):
    one, other = (tools.database([tools.entry("a"), tools.entry("b", "test")]) for _ in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_the_file_says_what_it_is_and_keeps_no_journal(tools):
    path = tools.database()
    content = path.read_bytes()
    assert int.from_bytes(content[68:72], "big") == schema.APPLICATION_ID == int.from_bytes(b"MNet", "big")
    assert int.from_bytes(content[60:64], "big") == schema.VERSION
    assert content[18:20] == b"\1\1", "1 is a rollback journal, 2 would be WAL"
    assert sqlite3.connect(path).execute("PRAGMA freelist_count").fetchone() == (0,)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [entry.name for entry in path.parent.iterdir()] == ["site.db"]


def test_no_path_of_this_machine_is_inside(tools):
    path = tools.database()
    assert path.parent.name.encode() not in path.read_bytes()


def test_a_failure_half_way_leaves_the_old_database_and_no_partial_file(tools):
    path = tools.database()
    before = path.read_bytes()
    with pytest.raises(RuntimeError), writer.create(path, tools.header()) as out:
        out.add(tools.entry())
        raise RuntimeError
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["site.db"]


def test_a_full_disk_leaves_the_old_database(tools):
    path = tools.database()
    before = path.read_bytes()
    noise = np.random.default_rng(1).integers(1, 60000, (40, 40, 40)).astype(np.uint16)
    with (
        pytest.raises(
            ImportScanError, match="cannot be written; check that its folder exists, is writable and has space"
        ),
        writer.create(path, tools.header()) as out,
    ):
        # SQLite reports a file of the allowed number of pages exactly as it reports a full disk.
        out._connection.execute("PRAGMA max_page_count = 8")
        out.add(tools.entry(image=noise))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["site.db"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nobody can say which files are open")
def test_no_copy_of_the_file_goes_into_the_systems_temporary_folder(tools):
    seen = set()

    def look():
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):
                seen.add(descriptor.readlink().name)

    path = tools.folder() / "site.db"
    noise = np.random.default_rng(1).integers(1, 250, (150,) * 3).astype(np.uint8)
    with writer.create(path, tools.header(block_side=32)) as out:
        out.add(tools.entry(image=noise))
        # SQLite calls this while it works; what it keeps in memory below its cache of two megabytes does not count.
        out._connection.set_progress_handler(look, 100)
    assert path.stat().st_size > 3_000_000 and any("site.db" in name for name in seen)
    # SQLite's own name backwards is how it calls its temporary files.
    assert not [name for name in seen if name.startswith("etilqs")]


def test_a_folder_that_does_not_exist(tmp_path, tools):
    with pytest.raises(ImportScanError, match="cannot be written; check that its folder exists") as caught:
        tools.database(path=tmp_path / "none" / "site.db")
    assert "none" not in caught.value.public


def test_a_folder_whose_name_is_no_text(tmp_path, tools):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    path = tools.database(path=folder / "site.db")
    with open_store(path) as store:
        assert [scan.subject for scan in store.scans()] == ["s1"]
    assert [entry.name for entry in folder.iterdir()] == ["site.db"]


def test_a_person_cannot_be_in_two_parts_of_the_split(tools):
    entries = [tools.entry("anna", "train", session="1"), tools.entry("anna", "test", session="2")]
    with pytest.raises(ImportScanError, match="one person's scans are in both train and test") as caught:
        tools.database(entries)
    assert "anna" not in caught.value.public


def test_nor_by_sql(tools):
    path = tools.database([tools.entry("anna")])
    with pytest.raises(sqlite3.IntegrityError):
        tools.spoil(path, "INSERT INTO subjects VALUES ('anna', 'test')")


def test_two_sessions_of_a_person_are_two_scans(tools):
    with open_store(tools.database([tools.entry(session="1"), tools.entry(session="2")])) as store:
        assert [scan.session for scan in store.scans("train")] == ["1", "2"]


def test_the_same_session_twice_is_refused(tools):
    with pytest.raises(ImportScanError, match="two scans of one session"):
        tools.database([tools.entry(), tools.entry()])


def test_entries_that_do_not_fit_are_refused(tools):
    image, label = tools.head()
    real = image.astype(np.float32)
    real[0, 0, 0] = np.nan
    bad = [
        (tools.entry(image=image, label=label[:-1]), "image and label have different grids"),
        (tools.entry(image=image, label=label + 1), "class numbers 0 to 2"),
        (tools.entry(image=image, label=label.astype(np.float32)), "class numbers 0 to 2"),
        (tools.entry(image=image.astype(np.float64), label=label), "3-D and of uint8"),
        (tools.entry(image=image[10], label=label[10]), "must be 3-D"),
        (tools.entry(image=real, scheme="none"), "NaN or infinite"),
        (tools.entry(image=image, label=label, slope=0.0), "positive slope"),
        (tools.entry(""), "needs a subject"),
        (tools.entry(split="training"), "a split is train, valid or test, not 'training'"),
    ]
    for entry, message in bad:
        with pytest.raises(ImportScanError, match=message):
            tools.database([entry])
