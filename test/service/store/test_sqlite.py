"""What only a file can do wrong: other programs, other versions, rights, full disks, killed processes."""

import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from full_disk import small_files

from service.blobs.base import BlobError
from service.protocol import Run, Session, identifier
from service.protocol.transitions import moved
from service.store.base import Contended, Create, Replace, StoreBroken
from service.store.sqlite import SqliteStore

A = identifier(1_000)
RUN = Run(A, "anna", "draft", "{}", "d" * 64, 1, 1)


def test_the_file_is_its_owners_alone(tmp_path):
    store = SqliteStore(tmp_path / "made" / "service.db")
    store.write(Create(RUN))
    for path in (tmp_path / "made").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path.name


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path):
    (tmp_path / "service.db").touch(0o644)
    SqliteStore(tmp_path / "service.db")
    assert (tmp_path / "service.db").stat().st_mode & 0o777 == 0o600


def test_what_was_written_outlives_the_store(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    store.write(Create(RUN))
    store.close()
    assert SqliteStore(tmp_path / "service.db").run(A) == RUN


def test_a_newer_version_is_refused(tmp_path):
    SqliteStore(tmp_path / "service.db").close()
    with sqlite3.connect(tmp_path / "service.db") as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(StoreBroken, match="version 2; this program knows 1"):
        SqliteStore(tmp_path / "service.db")


def test_a_file_of_before_there_were_sessions_gets_them_and_keeps_the_rest(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    store.write(Create(RUN))
    store.close()
    with sqlite3.connect(tmp_path / "service.db") as other:
        other.execute("DROP TABLE session")
    other.close()
    store = SqliteStore(tmp_path / "service.db")
    session = Session("c" * 64, "anna", "sealed", 700, 800)
    store.write(Create(session))
    assert (store.session(session.id), store.run(A)) == (session, RUN)


def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "service.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = (tmp_path / "service.db").read_bytes()
    with pytest.raises(StoreBroken, match="another program's"):
        SqliteStore(tmp_path / "service.db")
    assert (tmp_path / "service.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "service.db").write_bytes(content)
    with pytest.raises(StoreBroken):
        SqliteStore(tmp_path / "service.db")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "service.db").mkdir()
    with pytest.raises(StoreBroken):
        SqliteStore(tmp_path / "service.db")


def test_a_file_that_takes_no_writing_says_so(tmp_path):
    SqliteStore(tmp_path / "service.db").close()
    store = SqliteStore(tmp_path / "service.db")
    with store.transaction() as connection:
        connection.execute("SELECT 1")
    store._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreBroken, match="free some space, mend its rights"):
        store.write(Create(RUN))
    assert store.run(A) is None


def test_a_full_disk_loses_nothing_that_was_written(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    store.write(Create(RUN))
    later = [Create(Run(identifier(number), "x", "draft", "{}" * 5_000, "", 1, 1)) for number in range(2_000, 2_030)]
    with small_files(200_000), pytest.raises(StoreBroken, match="free some space"):
        store.write(*later)
    assert [run.id for run in store.runs("", 9)[0]] == [A]
    store.write(*later)
    assert len(store.runs("", 99)[0]) == 31


def test_two_processes_share_one_file(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    store.write(Create(RUN))
    code = (
        "import sys; from pathlib import Path; from service.store.sqlite import SqliteStore;"
        "from service.store.base import Replace; from service.protocol.transitions import moved;"
        "s = SqliteStore(Path(sys.argv[1])); s.write(Replace(moved(s.run(sys.argv[2]), owner='bert')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "service.db"), A], check=True)
    assert store.run(A).owner == "bert"


def test_a_writer_that_is_killed_in_the_middle_leaves_nothing_of_it(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    store.write(Create(RUN))
    code = (
        "import sys; from pathlib import Path; from service.store.sqlite import SqliteStore\n"
        "s = SqliteStore(Path(sys.argv[1]))\n"
        "with s.transaction() as c:\n"
        "    c.execute('DELETE FROM run'); print('in', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "service.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"in\n"
    assert store.run(A) == RUN
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close(), child.stdout.close()
    store.write(Replace(moved(RUN, owner="bert")))
    assert store.run(A).owner == "bert"


def test_twenty_writers_wait_for_each_other(tmp_path):
    store, failures = SqliteStore(tmp_path / "service.db"), []

    def work(number):
        own = SqliteStore(tmp_path / "service.db")
        try:
            for index in range(10):
                own.write(Create(Run(identifier(number * 100 + index), "x", "draft", "{}", "", 1, 1)))
        except StoreBroken as error:
            failures.append(error)
        own.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.runs("", 1000)[0]) == 200


def test_rows_and_files_that_are_changed_together_are_all_there_or_none(tmp_path):
    store, other = (SqliteStore(tmp_path / "service.db") for _ in range(2))
    with pytest.raises(Contended), store.together():
        assert store.shelf.put("a", b"one")
        store.write(Create(RUN))
        store.write(Replace(moved(moved(RUN))))
    assert store.shelf.get("a") is None and store.run(A) is None
    with store.together():
        assert store.shelf.put("a", b"one")
        store.write(Create(RUN))
        assert other.run(A) is None and other.shelf.get("a") is None
    assert store.shelf.get("a") == b"one" and store.run(A) == RUN
    store.write(Replace(moved(RUN)))  # each by itself again
    assert other.run(A) == moved(RUN)


def test_of_changes_together_none_is_kept_whose_failure_nobody_minded(tmp_path):
    store = SqliteStore(tmp_path / "service.db")
    with pytest.raises(StoreBroken), store.together():
        store.shelf.put("a", b"one")
        with pytest.raises(Contended):
            store.write(Replace(moved(RUN)))
        with pytest.raises(StoreBroken, match="cannot be read or written"):
            store.shelf.put("b", b"two")
    assert (store.shelf.get("a"), store.shelf.get("b")) == (None, None)
    assert store.shelf.put("a", b"one")


def test_threads_that_change_things_together_wait_for_each_other(tmp_path):
    store = SqliteStore(tmp_path / "service.db")

    def change(number):
        for count in range(20):
            with store.together():
                assert store.shelf.put(f"{number}/{count}", b"")
                store.write(Create(Session(f"{number}/{count}", "anna", "sealed", 1, 2)))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [f"{number}/{count}" for number in range(8) for count in range(20)]
    assert all(store.session(one) and store.shelf.get(one) == b"" for one in made)


def test_what_is_done_together_happens_at_once_or_not_at_all(tmp_path):
    store, other = SqliteStore(tmp_path / "service.db"), SqliteStore(tmp_path / "service.db")
    store.shelf.put("runs/x/old", b"old")
    done = []
    with store.together():
        store.write(Create(RUN))
        store.shelf.put("runs/x/new", b"new")
        store.shelf.delete_under("runs/x/none")
        store.shelf.delete("runs/x/old")
        store.shelf.then(lambda: done.append(other.run(A)))
        assert (store.run(A), other.run(A), done) == (RUN, None, [])
    assert done == [RUN]
    assert (other.shelf.get("runs/x/new"), other.shelf.get("runs/x/old")) == (b"new", None)
    with pytest.raises(Contended), store.together():
        store.shelf.delete("runs/x/new")
        store.shelf.then(lambda: done.append("never"))
        store.write(Create(RUN))
    assert (other.run(A), other.shelf.get("runs/x/new"), done) == (RUN, b"new", [RUN])
    store.shelf.then(lambda: done.append("at once"))
    store.write(Replace(moved(RUN, changed=3)))  # nothing of the one that failed is held
    assert done == [RUN, "at once"] and other.run(A).changed == 3


def test_what_fails_after_things_done_together_undoes_none(tmp_path, caplog):
    store = SqliteStore(tmp_path / "service.db")
    done = []

    def fails():
        raise BlobError("a folder that cannot be removed")

    with store.together():
        store.write(Create(RUN))
        store.then(fails)
        store.then(lambda: done.append("next"))
    assert store.run(A) == RUN and done == ["next"]
    assert "a folder that cannot be removed" in caplog.text
