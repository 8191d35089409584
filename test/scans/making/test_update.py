"""A second run adds what is new or changed; a killed run goes on; one process or several give the same bytes."""

import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ImportScanError
from computation.scans.making import images, ingest, recipe, split, spool
from computation.scans.making.ingest import import_table
from computation.scans.making.split import Fractions
from computation.scans.store import exclusive
from computation.scans.store.opening import open_store

SMALL = {"spacing": 2.0, "grid": 24}


#: What spoils a part, yet leaves it a database.
SPOILT = {
    "block": "UPDATE blocks SET crc32 = crc32 + 1 WHERE block = 1",
    "row": "UPDATE scans SET low = low + 1",
    "no scan": "DELETE FROM scans",
}


@pytest.fixture
def counted(monkeypatch):
    """Count the scans that are really made."""
    made = []
    real = recipe.make
    monkeypatch.setattr(recipe, "make", lambda row, *rest: made.append(row.subject) or real(row, *rest))
    return made


def states(summary):
    return {scan.subject: scan.state for scan in summary.taken}


def holds(path, subject):
    with open_store(path) as store:
        return store.scans()[0].subject == subject


def parts(path):
    with open_store(path) as store:
        for scan in store.scans():
            store.verify(scan)
        return {scan.subject: scan.split for scan in store.scans()}


def test_two_processes_make_the_same_bytes_as_one(tools):
    folder = tools.folder()
    table = tools.table(folder, 3)
    (folder / "1_seg.nii.gz").write_bytes(b"no")
    one = import_table(table, folder / "one.db", **SMALL)
    two = import_table(table, folder / "two.db", **SMALL, jobs=2)
    assert one == two and len(two.left_out) == 1
    assert (folder / "one.db").read_bytes() == (folder / "two.db").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_only_new_and_changed_scans_are_made_again(tools, counted):
    folder = tools.folder()
    database = folder / "site.db"
    import_table(tools.table(folder, 6), database, **SMALL)
    before = parts(database)
    table = tools.table(folder, 8)
    image, _ = tools.head(seed=99)
    tools.nifti(folder / "2_t1.nii.gz", image.astype(np.int16), np.diag([2, 2, 2, 1]))
    counted.clear()
    summary = import_table(table, database, **SMALL, update=True)
    assert sorted(counted) == ["p2", "p6", "p7"]
    assert states(summary) == {f"p{k}": {2: "changed", 6: "new", 7: "new"}.get(k, "unchanged") for k in range(8)}
    after = parts(database)
    assert len(after) == 8 and all(after[subject] == part for subject, part in before.items())
    counted.clear()
    assert set(states(import_table(table, database, **SMALL, update=True)).values()) == {"unchanged"} and not counted


def test_an_unchanged_update_leaves_the_same_bytes(tools):
    folder = tools.folder()
    table = tools.table(folder, 4)
    import_table(table, folder / "site.db", **SMALL)
    before = (folder / "site.db").read_bytes()
    import_table(table, folder / "site.db", **SMALL, update=True)
    assert (folder / "site.db").read_bytes() == before


def test_scans_that_are_no_longer_listed_stay(tools):
    folder = tools.folder()
    table = tools.table(folder, 4)
    import_table(table, folder / "site.db", **SMALL)
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([lines[0], lines[4]]), "utf-8")
    import_table(table, folder / "site.db", **SMALL, update=True)
    assert set(parts(folder / "site.db")) == {"p0", "p1", "p2", "p3"}


def test_a_scan_whose_files_are_gone_for_a_day_stays_and_so_does_its_persons_part(tools):
    folder = tools.folder()
    database, table = folder / "site.db", tools.table(folder, 10)
    import_table(table, database, **SMALL)
    before, content = parts(database), database.read_bytes()
    for index in range(4, 10):
        (folder / f"{index}_t1.nii.gz").rename(folder / f"away-{index}")
    summary = import_table(table, database, **SMALL, update=True)
    assert [scan.subject for scan in summary.left_out] == [f"p{index}" for index in range(4, 10)]
    assert all(scan.reason.endswith("; the scan in the database stays") for scan in summary.left_out)
    assert parts(database) == before and set(states(summary).values()) == {"unchanged"}
    for index in range(4, 10):
        (folder / f"away-{index}").rename(folder / f"{index}_t1.nii.gz")
    import_table(table, database, **SMALL, update=True)
    assert database.read_bytes() == content


def test_a_damaged_scan_is_made_again(tools, counted):
    folder = tools.folder()
    table = tools.table(folder, 3)
    import_table(table, folder / "site.db", **SMALL)
    tools.spoil(folder / "site.db", "UPDATE blocks SET crc32 = crc32 + 1 WHERE block = 1")
    counted.clear()
    assert states(import_table(table, folder / "site.db", **SMALL, update=True))["p0"] == "changed"
    assert counted == ["p0"] and len(parts(folder / "site.db")) == 3


def test_an_update_with_other_options_is_refused(tools):
    folder = tools.folder()
    table = tools.table(folder, 2)
    import_table(table, folder / "site.db", **SMALL)
    before = (folder / "site.db").read_bytes()
    for changes in (
        {"grid": 20},
        {"storage": "exact"},
        {"normalisation": "min-max"},
        {"label_set": "gwm-grey1-white2"},
    ):
        with pytest.raises(ImportScanError, match="was made with another grid, label set, normalisation, storage"):
            import_table(table, folder / "site.db", **{**SMALL, **changes}, update=True)
    assert (folder / "site.db").read_bytes() == before
    (folder / "other.db").write_text("mine")
    with pytest.raises(ImportScanError, match="cannot be updated"):
        import_table(table, folder / "other.db", **SMALL, update=True)


def test_a_killed_import_goes_on_where_it_stopped(tools, monkeypatch, counted):
    folder = tools.folder()
    table = tools.table(folder, 4)

    class Killed(BaseException):
        pass

    def killed(done, total, subject):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        import_table(table, folder / "site.db", **SMALL, progress=killed)
    assert not (folder / "site.db").exists() and counted == ["p0", "p1"]
    import_table(table, folder / "site.db", **SMALL)
    assert counted == ["p0", "p1", "p2", "p3"]
    import_table(table, folder / "whole.db", **SMALL)
    assert (folder / "site.db").read_bytes() == (folder / "whole.db").read_bytes()
    assert not (folder / ".site.db.parts").exists()


@pytest.mark.parametrize("damage", ["block", "row", "cut", "empty", "no scan", "not a database"])
def test_a_damaged_part_is_made_anew(tools, monkeypatch, counted, damage):
    folder = tools.folder()
    table = tools.table(folder, 2)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_copy", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_table(table, folder / "site.db", **SMALL)
    part = next(path for path in sorted((folder / ".site.db.parts").glob("*.db")) if holds(path, "p1"))
    content = part.read_bytes()
    if damage in SPOILT:
        tools.spoil(part, SPOILT[damage])
    else:
        part.write_bytes({"cut": content[:3000], "empty": b"", "not a database": b"no"}[damage])
    counted.clear()
    import_table(table, folder / "site.db", **SMALL)
    assert counted == ["p1"]
    import_table(table, folder / "whole.db", **SMALL)
    assert (folder / "site.db").read_bytes() == (folder / "whole.db").read_bytes()


def test_an_import_killed_while_it_puts_the_scans_together_leaves_nothing_once_it_is_repeated(tools):
    folder = tools.folder()
    table = tools.table(folder, 2)
    script = f"""if True:
        import os, pathlib, signal
        from computation.scans.making import ingest
        ingest._copy = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
        ingest.import_table(pathlib.Path({str(table)!r}), pathlib.Path({str(folder / "site.db")!r}), grid=24, spacing=2)
    """
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL and not (folder / "site.db").exists()
    import_table(table, folder / "site.db", **SMALL)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_second_of_two_imports_into_one_database_is_told_so_and_harms_nothing(tools):
    """The first is held in the middle; the second is refused, and refused again once the database is there."""
    folder = tools.folder()
    table, database = tools.table(folder, 3), folder / "site.db"
    told = []

    def second(done, total, subject):
        if done == 1:
            with pytest.raises(ImportScanError, match="another import is writing this database; wait") as caught:
                import_table(table, database, **SMALL)
            told.append(caught.value)
            assert import_table(table, database, **SMALL, dry_run=True).taken, "which writes nothing"

    assert len(import_table(table, database, **SMALL, progress=second).taken) == 3
    assert told and told[0].private == str(database)
    with pytest.raises(ImportScanError, match="exists already"):
        import_table(table, database, **SMALL)
    assert sorted(path.name for path in folder.iterdir() if "site.db" in path.name) == ["site.db"]


def test_a_database_that_came_while_an_import_waited_is_not_replaced(tools, monkeypatch):
    folder = tools.folder()
    table, database = tools.table(folder, 1), folder / "site.db"
    real = exclusive.locked

    @contextmanager
    def late(path, patience):
        with real(path, patience):
            path.write_text("the first one's")
            yield

    monkeypatch.setattr(exclusive, "locked", late)
    with pytest.raises(ImportScanError, match="exists already"):
        import_table(table, database, **SMALL)
    assert database.read_text() == "the first one's"


def test_what_was_put_by_is_not_used_for_other_files_or_options(tools, counted):
    folder = tools.folder()
    table = tools.table(folder, 2)
    (folder / "1_t1.nii.gz").write_bytes(b"no")
    with pytest.raises(ImportScanError):
        import_table(table, folder / "site.db", **SMALL, strict=True)
    counted.clear()
    import_table(table, folder / "site.db", spacing=2.0, grid=20)
    assert "p0" in counted


def test_a_dry_run_writes_nothing_and_says_what_would_happen(tools, counted):
    folder = tools.folder()
    table = tools.table(folder, 4)
    (folder / "3_t1.nii.gz").unlink()
    summary = import_table(table, folder / "site.db", **SMALL, dry_run=True)
    assert states(summary) == {"p0": "new", "p1": "new", "p2": "new"} and summary.left_out[0].subject == "p3"
    assert not counted and not (folder / "site.db").exists()
    real = import_table(table, folder / "site.db", **SMALL)
    assert real.counts == summary.counts


def test_one_image_under_two_people_is_told(tools):
    folder = tools.folder()
    table, database = tools.table(folder, 4, split=["train", "test", "train", "valid"]), folder / "site.db"
    (folder / "1_t1.nii.gz").write_bytes((folder / "0_t1.nii.gz").read_bytes())
    wanted = "the same image file is there for 2 people, in train and test; keep only the right one"
    for dry in (True, False):
        summary = import_table(table, database, **SMALL, dry_run=dry)
        assert [scan.subject for scan in summary.taken if wanted in scan.warnings] == ["p0", "p1"]
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([lines[0], lines[2]]), "utf-8")
    summary = import_table(table, database, **SMALL, update=True)
    assert {scan.subject for scan in summary.taken if wanted in scan.warnings} == {"p0", "p1"}


def test_one_image_in_two_visits_of_one_person_is_no_leak(tools):
    folder = tools.folder()
    table = tools.table(folder, 2, session=["a", "b"])
    (folder / "1_t1.nii.gz").write_bytes((folder / "0_t1.nii.gz").read_bytes())
    table.write_text(table.read_text("utf-8").replace("p1", "p0"), "utf-8")
    summary = import_table(table, folder / "site.db", **SMALL)
    assert not any("people" in text for scan in summary.taken for text in scan.warnings)


def test_nobody_moves_to_another_part_of_the_split_in_a_table(tools):
    folder = tools.folder()
    import_table(tools.table(folder, 2, split=["train", "test"]), folder / "site.db", **SMALL)
    with pytest.raises(ImportScanError, match="one person's scans are in both"):
        import_table(tools.table(folder, 2, split=["test", "train"]), folder / "site.db", **SMALL, update=True)


def test_a_process_that_dies_is_named(tools, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    folder = tools.folder()
    table = tools.table(folder, 2)

    class Broken:
        def __init__(self, *given, **named):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *given):
            return False

        def submit(self, *given):
            raise BrokenProcessPool("dead")

        def shutdown(self, **named):
            pass

    monkeypatch.setattr(spool, "ProcessPoolExecutor", Broken)
    with pytest.raises(ImportScanError, match="died, most likely for want of memory; import with fewer jobs"):
        import_table(table, folder / "site.db", **SMALL, jobs=2)


def test_a_scan_that_needs_too_much_memory_is_left_out(tools, monkeypatch):
    folder = tools.folder()
    real = images.load

    def load(path):
        if path.name.startswith("1_"):
            raise MemoryError
        return real(path)

    monkeypatch.setattr(recipe.images, "load", load)
    summary = import_table(tools.table(folder, 2), folder / "site.db", **SMALL)
    assert "needs more memory" in summary.left_out[0].reason


def test_jobs_must_be_at_least_one(tools):
    folder = tools.folder()
    with pytest.raises(ImportScanError, match="0 jobs can import nothing"):
        import_table(tools.table(folder, 1), folder / "site.db", **SMALL, jobs=0)
    shutil.rmtree(folder)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True, max_size=40), st.integers(0, 30), st.integers(0, 9)
)
def test_people_who_have_a_part_keep_it_and_the_others_fill_up(people, first, seed):
    kept = split.assign(people[:first], Fractions(), seed)
    both = split.assign(people, Fractions(), seed + 1, kept)
    assert set(both) == set(people) and all(both[person] == part for person, part in kept.items())
    one_by_one: dict[str, str] = {}
    for person in people:
        one_by_one = split.assign([person], Fractions(0.5, 0.5, 0.0), seed, one_by_one)
    sizes = [list(one_by_one.values()).count(part) for part in ("train", "valid", "test")]
    assert abs(sizes[0] - sizes[1]) <= 1 and sizes[2] == 0
