"""Databases of version 1 are read and brought forward; the peer's table becomes one of ours."""

import sqlite3
import zlib

import numpy as np
import pytest
import zstandard

from computation.errors import ImportScanError, StoreError
from computation.scans.store import blocks, schema
from computation.scans.store.blocks import Box
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.fingerprint import fingerprint
from computation.scans.store.migrate import from_peer, migrate
from computation.scans.store.opening import open_store


def first_version(tools, entries):
    """Turn a database into what version 1 of the software wrote, by the words of the schema."""
    path = tools.database(entries)
    with open_store(path) as store:
        held = [
            (
                store.volumes(scan),
                [store.stored(scan, one.kind, Box((0, 0, 0), scan.shape)) for one in store.volumes(scan)],
            )
            for scan in store.scans()
        ]
        sealed = [store.sealed(scan)[0][:-1] for scan in store.scans()]
    connection = sqlite3.connect(path)
    for key, (volumes, voxels) in enumerate(held, 1):
        digest = fingerprint(sealed[key - 1], voxels)
        connection.execute("UPDATE scans SET sha256 = ? WHERE scan = ?", (digest, key))
        for volume, array in zip(volumes, voxels, strict=True):
            for block in range(len(volume.grid)):
                raw = np.ascontiguousarray(array[volume.grid.box(block).slices()]).tobytes()
                data = zstandard.compress(raw, 9) if any(raw) else b""
                row = (zlib.crc32(data) if data else 0, data, volume.first + block)
                connection.execute("UPDATE blocks SET crc32 = ?, data = ? WHERE block = ?", row)
    connection.execute("UPDATE volumes SET codec = 'zstd'")
    connection.execute("ALTER TABLE scans DROP COLUMN notes")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def old(tools):
    entries = [tools.entry("anna", "train"), tools.entry("bernd", "test", session="2")]
    return first_version(tools, entries), entries


def test_version_1_is_read_in_place(old):
    path, entries = old
    with open_store(path) as store:
        for scan, entry in zip(store.scans(), entries, strict=True):
            assert (store.stored(scan, "image", Box((0, 0, 0), scan.shape)) == entry.image).all()
            assert scan.warnings == () and scan.cut == 0 and scan.head == "unknown"
            store.verify(scan)


def test_version_1_is_brought_forward_in_place(old, tools):
    path, entries = old
    assert migrate(path, path, overwrite=True) == 2
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert path.read_bytes() == tools.database(entries).read_bytes(), "as if it had been written today"


def test_a_damaged_old_database_is_not_migrated(old, tools):
    path, _ = old
    tools.spoil(path, "UPDATE blocks SET crc32 = crc32 + 1 WHERE block = 13")
    before = path.read_bytes()
    with pytest.raises(ScanFault) as caught:
        migrate(path, path, overwrite=True)
    assert caught.value.fault is Fault.CHECKSUM and path.read_bytes() == before


def test_migration_replaces_nothing_unasked_and_takes_only_ours(old, tools):
    path, _ = old
    with pytest.raises(ImportScanError, match="exists already"):
        migrate(path, path)
    image, label = tools.head((8, 8, 8))
    peer = tools.peer(tools.folder() / "p.db", [(image, label / 2)])
    with pytest.raises(StoreError, match="not one of our databases"):
        migrate(peer, peer.with_name("q.db"))


def test_who_writes_a_database_is_alone(old, tools):
    path, _ = old
    image, label = tools.head((8, 8, 8))
    peer = tools.peer(tools.folder() / "p.db", [(image, label / 2)])
    target = path.with_name("new.db")
    told = []

    def second(done, total, subject):
        for write in (lambda: migrate(path, target, overwrite=True), lambda: from_peer(peer, target, overwrite=True)):
            with pytest.raises(ImportScanError, match="another import is writing this database; wait") as caught:
                write()
            told.append(caught.value.private)

    assert migrate(path, target, progress=second) == 2
    assert from_peer(peer, target, overwrite=True, progress=second) == 1
    assert told == [str(target)] * 6
    assert not target.with_name(f".{target.name}.lock").exists()


@pytest.mark.parametrize("storage", ["8bit", "exact"])
def test_a_peers_table_becomes_ours(tools, storage):
    folder = tools.folder()
    pairs = [tools.head((12, 12, 12), seed=index) for index in range(10)]
    peer = tools.peer(folder / "peer.db", [(image / image.max(), label / 2) for image, label in pairs])
    assert from_peer(peer, folder / "site.db", storage=storage) == 10
    with open_store(peer) as theirs, open_store(folder / "site.db") as ours:
        assert ours.format == "meshnet" and ours.label_names == tools.names
        assert len(ours.scans("train")) == len(theirs.scans("train")) == 7
        for scan, (image, label) in zip(ours.scans(), pairs, strict=True):
            ours.verify(scan)
            same = theirs.scans()[scan.key - 1]
            assert (scan.subject, scan.split, scan.native) == (same.subject, same.split, None)
            assert (ours.read_label(scan, (0, 0, 0), scan.shape) == label).all()
            found, wanted = (one.read_image(scan, (0, 0, 0), scan.shape) for one in (ours, theirs))
            top = np.quantile((image / image.max())[image > 0], 0.999)
            limit = 0 if storage == "exact" else top / 510 / (scan.high - scan.low) * 1.01
            assert np.abs(found - wanted).max() <= limit + 1e-6


def test_what_is_ambiguous_at_the_peers_is_refused(tools):
    folder = tools.folder()
    image, label = tools.head((8, 8, 8))
    peer = tools.peer(folder / "peer.db", [(image, np.minimum(label, 1))])
    with pytest.raises(StoreError, match="could be class numbers or fractions"):
        from_peer(peer, folder / "site.db")
    assert not (folder / "site.db").exists()
    with pytest.raises(StoreError, match="nothing to take from a peer"):
        from_peer(tools.database(), folder / "site.db")


@pytest.mark.parametrize("table", ['a"b', "scans; DROP TABLE x", "Größe '1'"])
def test_a_hostile_table_name_is_only_a_name(tools, table):
    folder = tools.folder()
    image, label = tools.head((8, 8, 8))
    peer = tools.peer(folder / "peer.db", [(image, label / 2)], table=table)
    assert from_peer(peer, folder / "site.db", table=table) == 1


def test_a_new_database_has_small_pages(tools):
    """The size bar rests on it: see `writer.py`."""
    connection = sqlite3.connect(tools.database())
    assert connection.execute("PRAGMA page_size").fetchone() == (1024,)
    codecs = {codec for (codec,) in connection.execute("SELECT DISTINCT codec FROM volumes")}
    assert codecs <= set(blocks.CODECS) and codecs == {"zstd+delta", "zstd+bits2"}
