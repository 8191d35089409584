"""One order at a time, whatever befalls its process, the pages, or what they have written down."""

import json
import os
import signal
import threading
import time

import pytest
from clinics import bids, table
from consortium import database

from service.protocol import Conflict
from service.site import work as module
from service.site.order import Order
from service.site.work import Work


def order(root, name="table.csv", *more):
    target = root.folder / "site.db"
    return Order("import", (str(root.folder / name), f"--db={target}", "--jobs=1", *more), name, "site.db")


@pytest.fixture
def root(clinic):
    table(clinic.root, 3)
    return clinic.work.root


def reached(work, done):
    """Wait until so many scans are done; return the process."""
    until = time.monotonic() + 60
    while work.state.done < done and work.state.state == "running" and time.monotonic() < until:
        time.sleep(0.002)
    assert work.state.state == "running", work.state
    return work._process


def test_a_process_that_is_killed_is_told_and_the_import_goes_on(clinic, root):
    clinic.work.begin(order(root))
    os.kill(reached(clinic.work, 1).pid, signal.SIGKILL)
    found = clinic.wait("failed")
    assert "killed" in found.problem and "begun again, it goes on" in found.problem
    assert not (root.folder / "site.db").exists()
    made = {path.name: path.stat().st_ino for path in (root.folder / ".site.db.parts").glob("*.db")}
    assert made
    clinic.work.begin(order(root))
    reached(clinic.work, len(made))
    kept = {path.name: path.stat().st_ino for path in (root.folder / ".site.db.parts").glob("*.db")}
    assert made.items() <= kept.items()
    assert clinic.wait().result["states"] == {"new": 3}
    assert (root.folder / "site.db").is_file() and not (root.folder / ".site.db.parts").exists()


def test_an_import_that_is_stopped_leaves_the_old_database_and_no_lock(clinic, root):
    old = database(root.folder / "site.db").read_bytes()
    clinic.work.begin(order(root, "table.csv", "--overwrite"))
    process = reached(clinic.work, 1)
    clinic.work.stop()
    clinic.work.stop()
    clinic.wait("stopped")
    assert process.returncode is not None
    assert (root.folder / "site.db").read_bytes() == old and not (root.folder / ".site.db.lock").exists()


def test_one_that_is_stopped_before_it_has_begun_is_stopped(clinic, root):
    clinic.work.begin(order(root))
    clinic.work.stop()
    clinic.wait("stopped")
    assert not (root.folder / "site.db").exists()


def test_pages_that_end_end_it_and_say_so_the_next_time(clinic, root):
    clinic.work.begin(order(root))
    process = reached(clinic.work, 1)
    clinic.close()
    assert process.returncode is not None
    clinic.open()
    assert clinic.work.state.state == "interrupted" and clinic.work.state.order == order(root)
    clinic.work.begin(order(root))
    clinic.wait()


def test_pages_that_were_killed_say_so_the_next_time(clinic, root):
    record = clinic.folder / "data" / "order.json"
    clinic.work.begin(order(root))
    reached(clinic.work, 1)
    running = record.read_bytes()
    clinic.work.stop()
    clinic.wait("stopped")
    clinic.close()
    record.write_bytes(running)
    clinic.open()
    assert clinic.work.state.state == "interrupted"


def test_of_many_at_once_one_begins(clinic, root):
    told = []

    def begin():
        try:
            clinic.work.begin(order(root))
            told.append("begun")
        except Conflict as error:
            told.append(error.code)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(told) == ["begun", *["busy"] * 7]
    clinic.wait()


def test_an_import_from_a_terminal_into_the_same_database_is_seen(clinic, root):
    from computation.scans.store.exclusive import exclusive

    with exclusive(root.folder / "site.db"):
        clinic.work.begin(order(root))
        assert "another import is writing this database" in clinic.wait("failed").problem


def test_words_that_the_command_does_not_know_are_refused(clinic, root):
    clinic.work.begin(order(root, "table.csv", "--no-such"))
    assert "--no-such" in clinic.wait("failed").problem


def test_a_machine_without_processes_is_told(clinic, root, monkeypatch):
    monkeypatch.setattr(module.sys, "executable", str(root.folder / "no"))
    clinic.work.begin(order(root))
    assert "no process can be started" in clinic.wait("failed").problem


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{}", b'{"order": 1}', b'{"order": {"verb": "x"}}', b'{"no": 1, "order": {}}']
)
def test_a_record_of_anybody_is_no_order(clinic, content):
    path = clinic.folder / "record.json"
    path.write_bytes(content)
    assert Work(clinic.work.root, path).state is None


def test_a_record_that_cannot_be_written_stops_nothing(clinic, root):
    work = Work(root, clinic.folder / "no" / "record.json")
    with work:
        work.begin(Order("import", (*order(root).words, "--dry-run"), "table.csv", "site.db"))
        work._thread.join()
    assert work.state.state == "done"


def test_a_folder_whose_name_is_no_text_is_imported(clinic):
    odd = os.fsdecode(b"caf\xe9")
    bids(clinic.root / odd)
    words = (f"--bids={clinic.root / odd}", f"--db={clinic.root / odd / 'site.db'}", "--spacing", "2", "--jobs=1")
    clinic.work.begin(Order("import", words, odd, f"{odd}/site.db"))
    assert clinic.wait().result["states"] == {"new": 2}
    clinic.close()
    clinic.open()
    assert clinic.work.state.order.source == odd
    assert json.dumps(clinic.work.state.order.as_json()).isascii()
