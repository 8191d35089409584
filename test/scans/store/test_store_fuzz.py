"""Whatever happens to the bytes of a database file: the right values or one named error, never another's voxels.

Damage is drawn over all bytes of a small file: flipped bits, bytes set, stretches zeroed, cut, removed and exchanged,
whole pages exchanged or doubled. What can be read after it is compared with what was written.
"""

import resource
import sqlite3
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import MeshNetError
from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import open_store

PAGE = 1024

#: What stands in a cell of a thousand databases where something else should.
CELLS = [
    *(None, 0, -1, 1.5, 2**31, 2**63 - 1, -(2**63), 1e308, float("inf"), "", "x", b"", b"\0", bytes(4000), "9" * 5000),
    *("null", "[]", "{}", "[1,2,3]", "[1,1,1]", "[4096,4096,128]", "NaN", "[1e999,1,1]", "[" * 2000, '"\\ud800"', "\0"),
    *("129", "1290", "128", "1", '{"cut":NaN}', '{"shape":[1,1,1]}', "train", "image", "label", "float32", "int16"),
    *(zlib.compress(bytes(4 * 8**3)), zlib.compress(bytes(4 * 200**3), 1), b"\x28\xb5\x2f\xfd" + bytes(100)),
]


@pytest.fixture(scope="module")
def written(tools):
    """Return a file's bytes, what is in it, and where a damaged copy may lie."""
    entries = [
        tools.entry(name, image=tools.head(seed=seed)[0], label=tools.head()[1]) for seed, name in enumerate("ab")
    ]
    exact = tools.head(seed=4)[0].astype(np.float32)
    entries.append(tools.entry("c", "valid", image=exact))
    path = tools.database(entries)
    return path.read_bytes(), entries, path.with_name("bad.db")


def outcome(content, entries, path):
    """Open, verify and read every block; say how it went, having compared whatever could be read."""
    path.write_bytes(content)
    faults = 0
    try:
        with open_store(path) as store:
            assert store.format == "meshnet", "a damaged database is nobody else's"
            scans = store.scans()
            for scan in scans:
                faults += not compared(store, scan, entries)
    except MeshNetError:
        return "refused"
    assert faults or len(scans) == len(entries), "no scan goes without a word"
    return "faulty" if faults else "whole"


def compared(store, scan, entries):
    try:
        store.verify(scan)
    except ScanFault:
        verified = False
    else:
        verified = True
    entry = next((one for one in entries if one.subject == scan.subject), None)
    if verified:
        assert entry is not None and (scan.split, scan.low, scan.high) == (entry.split, entry.low, entry.high)
        assert (scan.shape, scan.affine, scan.labelled) == (entry.image.shape, entry.affine, entry.label is not None)
    for volume in store.volumes(scan):
        for block in range(len(volume.grid)):
            box = volume.grid.box(block)
            try:
                found = store.stored(scan, volume.kind, box)
            except ScanFault:
                assert not verified, "what has been verified can be read"
                continue
            if verified:
                wanted = entry.image if volume.kind == "image" else entry.label
                assert (found == wanted[box.slices()]).all()
    return verified


def flip(data, bad):
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(bad) - 1))
        bad[place] ^= 1 << data.draw(st.integers(0, 7))


def overwrite(data, bad):
    place = data.draw(st.integers(0, len(bad) - 1))
    length = data.draw(st.integers(1, 64))
    bad[place : place + length] = data.draw(st.binary(min_size=length, max_size=length))[: len(bad) - place]


def zero(data, bad):
    place = data.draw(st.integers(0, len(bad) - 1))
    end = min(len(bad), place + data.draw(st.integers(1, 2 * PAGE)))
    bad[place:end] = bytes(end - place)


def cut(data, bad):
    del bad[data.draw(st.integers(0, len(bad) - 1)) :]


def remove(data, bad):
    place = data.draw(st.integers(0, len(bad) - 1))
    del bad[place : place + data.draw(st.integers(1, PAGE))]


def exchange(data, bad):
    length = data.draw(st.integers(1, PAGE))
    one, other = (data.draw(st.integers(0, len(bad) - length)) for _ in range(2))
    bad[one : one + length], bad[other : other + length] = bad[other : other + length], bad[one : one + length]


def exchange_pages(data, bad):
    one, other = (PAGE * data.draw(st.integers(0, len(bad) // PAGE - 1)) for _ in range(2))
    bad[one : one + PAGE], bad[other : other + PAGE] = bad[other : other + PAGE], bad[one : one + PAGE]


def double_page(data, bad):
    one, other = (PAGE * data.draw(st.integers(0, len(bad) // PAGE - 1)) for _ in range(2))
    bad[one : one + PAGE] = bad[other : other + PAGE]


DAMAGE = [flip, overwrite, zero, cut, remove, exchange, exchange_pages, double_page]


def test_an_undamaged_file_is_whole(written):
    content, entries, path = written
    assert len(content) % PAGE == 0 and outcome(content, entries, path) == "whole"


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_bytes_are_right_values_or_one_named_error(written, damage):
    content, entries, path = written

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def fuzz(data):
        bad = bytearray(content)
        damage(data, bad)
        assert outcome(bytes(bad), entries, path) in ("refused", "faulty", "whole")

    fuzz()


def test_every_page_zeroed_in_turn(written):
    """None can go without a word but that of the index which only the writer uses."""
    content, entries, path = written
    path.write_bytes(content)
    connection = sqlite3.connect(path)
    unread = {page - 1 for (page,) in connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'")}
    connection.close()
    seen = {}
    for page in range(len(content) // PAGE):
        bad = bytearray(content)
        bad[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        seen[page] = outcome(bytes(bad), entries, path)
    assert {page for page, how in seen.items() if how == "whole"} == unread
    assert set(seen.values()) == {"refused", "faulty", "whole"}


def test_rows_beyond_those_of_a_volume_are_a_named_fault(written, tools):
    """A leaf page that is there twice gives rows twice: found by this fuzzer, which once ended in another error."""
    content, entries, path = written
    pages = range(len(content) // PAGE)
    for one, other in ((12, 3), *((page, page + 1) for page in pages[:-1])):
        bad = bytearray(content)
        bad[one * PAGE : (one + 1) * PAGE] = content[other * PAGE : (other + 1) * PAGE]
        assert outcome(bytes(bad), entries, path) in ("refused", "faulty", "whole")


@pytest.fixture(scope="module")
def prototypes(tools):
    """A small file of the prototype's, and where a damaged copy may lie."""
    generator = np.random.default_rng(5)
    rows = [[generator.random((8, 8, 8)), generator.integers(0, 3, (8, 8, 8)) / 2] for _ in range(3)]
    path = tools.folder() / "peer.db"
    return tools.peer(path, rows).read_bytes(), path.with_name("bad.db")


def mutated(content, path, generator):
    """Write a copy with a few bytes, cells, rows or tables changed; what SQLite itself refuses to change stays."""
    bad = bytearray(content)
    for place in generator.integers(0, len(bad), generator.integers(0, 4)):
        bad[place : place + 8] = generator.bytes(int(generator.integers(0, 12)))
    path.write_bytes(bad)
    connection = sqlite3.connect(path)
    for _ in range(generator.integers(0, 4)):
        try:
            change(connection, generator)
            connection.commit()
        except (sqlite3.Error, ValueError, OverflowError, MemoryError):
            connection.rollback()
    connection.close()


def change(connection, generator):
    def pick(items):
        return items[generator.integers(len(items))]

    connection.execute("PRAGMA ignore_check_constraints = ON")
    table = pick([name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")])
    column = pick([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
    row = pick(range(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] or 1))
    one = f"{column} IN (SELECT {column} FROM {table} LIMIT 1 OFFSET {row})"
    cell = f"UPDATE {table} SET {column} = ? WHERE {one}"
    how = [(cell, (pick(CELLS),))] * 12
    how += [(text, ()) for text in (f"DELETE FROM {table} WHERE {one}", f"DELETE FROM {table}", f"DROP TABLE {table}")]
    how += [(f"ALTER TABLE {table} DROP COLUMN {column}", ()), (f"ALTER TABLE {table} RENAME {column} TO other", ())]
    how += [
        (f"ALTER TABLE {table} ADD COLUMN more AS (hex({column}))", ()),
        (f"CREATE VIEW v AS SELECT * FROM {table}", ()),
    ]
    how += [(f"PRAGMA user_version = {generator.integers(0, 4)}", ())]
    connection.execute(*pick(how))


def read_all(path):
    """Open, verify and read whatever there is; say how it went."""
    try:
        with open_store(path, classes=("a", "b", "c")) as store:
            outcomes = set()
            for scan in store.scans():
                try:
                    if store.format == "meshnet":
                        store.verify(scan)
                    image, _ = store.read(scan, (0, 0, 0), scan.shape)
                    assert np.isfinite(image).all()
                    outcomes.add("whole")
                except ScanFault:
                    outcomes.add("faulty")
            return "faulty" if "faulty" in outcomes else "whole"
    except MeshNetError as error:
        assert error.public and str(path) not in error.public
        return "refused"


def test_a_thousand_databases_are_each_a_value_or_one_named_error(written, prototypes):
    """Six hundred of ours and four hundred of the prototype's: none takes five seconds, or a gigabyte."""
    contents = [(written[0], written[2])] * 3 + [prototypes] * 2
    seen, longest = {}, 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1000):
        content, path = contents[number % 5]
        mutated(content, path, np.random.default_rng([11, number]))
        began = time.thread_time()
        how = read_all(path)
        longest = max(longest, time.thread_time() - began)
        seen[how] = seen.get(how, 0) + 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{seen}, longest {longest:.3f} s of the processor, {grown / 1024:.0f} MiB more memory")
    assert sum(seen.values()) == 1000 and min(seen[how] for how in ("whole", "faulty", "refused")) > 50
    assert longest < 5 and grown < 900 * 1024
