"""Databases that somebody made to harm: refused by name, in bounded time and memory, before anything in them runs."""

import sqlite3
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from computation.errors import StoreError
from computation.scans.store import guarded, peer, schema
from computation.scans.store.faults import Fault, ScanFault
from computation.scans.store.opening import open_store

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT"
PAGE = 1024


def refusal(path):
    """Return the one named error that opening ends in, within five seconds of the processor."""
    began = time.process_time()
    with pytest.raises(StoreError) as caught:
        open_store(path)
    assert time.process_time() - began < 5
    assert str(path.parent) not in caught.value.public
    return caught.value.public


# --- what runs when it is read ---------------------------------------------------------------------------------------

RUNS = {
    "a view without end": ("DROP TABLE meta", f"CREATE VIEW meta AS {ENDLESS} 'n' || x AS name, '1' AS value FROM c"),
    "a view beside the tables": (f"CREATE VIEW other AS {ENDLESS} x FROM c",),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM scans; END",),
    "a generated column": ("ALTER TABLE scans ADD COLUMN more AS (zeroblob(1000000000))",),
    "a column in place of another": (
        "ALTER TABLE meta RENAME TO old",
        "CREATE TABLE meta (name TEXT, value AS (replace(hex(zeroblob(50000000)), '00', name)))",
    ),
    "a virtual table": ("DROP TABLE meta", "CREATE VIRTUAL TABLE meta USING rtree(name, value, other)"),
}


@pytest.mark.parametrize("how", RUNS)
def test_ours_with_something_that_runs(tools, how):
    try:
        path = tools.spoil(tools.database(), *RUNS[how])
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot make it: {error}")
    assert "more than plain tables" in refusal(path)


def test_a_view_that_calls_itself_a_table(tools):
    """Newer SQLite finds it itself."""
    path = tools.spoil(
        tools.database(),
        f"CREATE VIEW other AS {ENDLESS} x FROM c",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET type = 'table', rootpage = 2 WHERE name = 'other'",
    )
    assert refusal(path).startswith(("the scan database holds more than plain", "the scan database is not a SQLite"))


@pytest.mark.parametrize(
    "made",
    [
        f"CREATE VIEW mindboggle101 AS {ENDLESS} x AS id, zeroblob(x) AS Image, zeroblob(x) AS GWlabels FROM c",
        "CREATE TABLE mindboggle101 (id INTEGER PRIMARY KEY, Image AS (zeroblob(900000000)), GWlabels BLOB)",
    ],
)
def test_the_prototypes_table_with_something_that_runs(tools, made):
    assert "more than plain tables" in refusal(tools.spoil(tools.folder() / "peer.db", made))


def test_a_statement_without_end_is_given_up(tools, monkeypatch):
    monkeypatch.setattr(guarded, "_ALLOWANCE", 0.3)
    connection = schema.connect(tools.database())
    for run in (connection.execute, lambda query: list(connection.rows(query))):
        began = time.process_time()
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            run(f"{ENDLESS} count(*) FROM c")
        assert connection.overdue and time.process_time() - began < 2
    with pytest.raises(sqlite3.DataError, match="at most 1000"):
        list(connection.rows(f"{ENDLESS} x FROM c", most=1000))
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        list(connection.rows(f"{ENDLESS} x FROM c", most=10**9))


def test_a_reader_that_takes_its_time_is_not_interrupted(tools, monkeypatch):
    monkeypatch.setattr(guarded, "_ALLOWANCE", 0.1)
    connection = schema.connect(tools.database())
    seen = 0
    for _ in connection.rows(f"{ENDLESS} x FROM c LIMIT 3"):
        seen += 1
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
    assert seen == 3


# --- pages that lead back to themselves ------------------------------------------------------------------------------


def looped(path, table, levels):
    """Make a table's tree pages that all lead to one another, and in the end to its one leaf: rows without end."""
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    blob = bytearray(path.read_bytes())
    place, count = (root - 1) * PAGE, len(blob) // PAGE
    leaf = bytes(blob[place : place + PAGE])
    assert leaf[0] == 13, "a tree of one leaf"
    for _ in range(levels):
        blob[place : place + PAGE] = inner(count + 1)
        place, count = len(blob), count + 1
        blob += bytes(PAGE)
    blob[place : place + PAGE] = leaf
    blob[28:32], blob[92:96] = struct.pack(">I", count), blob[24:28]
    path.write_bytes(blob)
    return path


def inner(child):
    """Return an interior page of a table's tree: all its cells and its last pointer lead to one child."""
    cell = struct.pack(">I", child) + b"\x7f"
    cells = (PAGE - 12) // (len(cell) + 2)
    starts = [PAGE - (number + 1) * len(cell) for number in range(cells)]
    page = bytearray(struct.pack(">BHHHBI", 5, 0, cells, starts[-1], 0, child) + struct.pack(f">{cells}H", *starts))
    return bytes(page.ljust(PAGE - cells * len(cell), b"\0") + cell * cells)


def test_rows_without_end_that_nobody_sees(tools, monkeypatch):
    """No row fits the join, so SQLite would look for the first one for ever."""
    monkeypatch.setattr(guarded, "_ALLOWANCE", 0.3)
    path = tools.spoil(tools.database(), "DELETE FROM subjects")
    assert "damaged" in refusal(looped(path, "scans", 12))


def test_rows_without_end_that_are_all_the_same(tools):
    assert "lists a scan twice" in refusal(looped(tools.database(), "scans", 1))
    assert "lists a scan twice" in refusal(looped(tools.database(), "scans", 12))
    cubes = [[np.zeros((4, 4, 4)), np.zeros((4, 4, 4))]]
    path = tools.folder() / "peer.db"
    sqlite3.connect(path).executescript(f"PRAGMA page_size = {PAGE}; VACUUM;")
    assert "one comes twice" in refusal(looped(tools.peer(path, cubes), "mindboggle101", 1))


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["129", "1290", "0", "-8", "true", "8.0", '"8"', "null", "1" * 300])
def test_a_side_that_no_block_has(tools, side):
    path = tools.spoil(tools.database(), ("UPDATE meta SET value = ? WHERE name = 'block_side'", (side,)))
    assert "malformed block_side; wanted 1 to 128" in refusal(path)


def test_the_largest_side_is_read(tools):
    with open_store(tools.database(block_side=128)) as store:
        store.verify(store.scans()[0])


def test_a_text_that_no_fact_needs(tools):
    path = tools.spoil(tools.database(), "UPDATE meta SET value = CAST(zeroblob(17000000) AS TEXT)")
    assert "damaged" in refusal(path)


def test_a_block_larger_than_any(tools):
    path = tools.spoil(tools.database(), "UPDATE blocks SET data = zeroblob(70000000) WHERE block = 3")
    with open_store(path) as store:
        scan = store.scans()[0]
        with pytest.raises(ScanFault) as caught:
            store.verify(scan)
    assert caught.value.fault is Fault.UNREADABLE


def test_a_block_that_unpacks_to_more_than_any(tools):
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    start = zlib.crc32(b"1/image/3")
    change = ("UPDATE blocks SET data = ?, crc32 = ? WHERE block = 3", (bomb, zlib.crc32(bomb, start)))
    with open_store(tools.spoil(tools.database(), change)) as store:
        tracemalloc.start()
        try:
            with pytest.raises(ScanFault) as caught:
                store.verify(store.scans()[0])
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
    assert "200000000 bytes declared" in caught.value.private


@pytest.mark.parametrize("first", [2**63 - 1, 2**62, -1])
def test_a_first_block_that_no_key_can_be(tools, first):
    assert "malformed volume" in refusal(tools.spoil(tools.database(), f"UPDATE volumes SET first = {first}"))


def test_a_cube_that_unpacks_to_more_than_any(tools, monkeypatch):
    monkeypatch.setattr(peer, "_MOST_BYTES", 4 * (64**3 + 1))
    bomb = zlib.compress(bytes(4 * 256**3), 1)
    path = tools.peer(tools.folder() / "peer.db", [[bomb, bomb]])
    tracemalloc.start()
    try:
        assert "is not a cube of float32" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_python_3_10_has_a_limit_too(tools):
    """It cannot set the limits of a connection, so the memory of all has one; in a process of its own."""
    path = tools.spoil(tools.database(), "UPDATE meta SET value = CAST(zeroblob(40000000) AS TEXT)")
    code = (
        "import sys, types; from pathlib import Path; from computation.scans.store import guarded, opening\n"
        "guarded.sys = types.SimpleNamespace(version_info=(3, 10)); guarded._HEAP = 20_000_000\n"
        "try:\n    opening.open_store(Path(sys.argv[1]))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StoreError the scan database is damaged") and guarded._TOO_LARGE in done.stdout
