"""What a folder holds is told by what it is, not by what it is called."""

import os

import pytest
from clinics import bids, freesurfer, table
from consortium import database

from computation.errors import ImportScanError
from service.protocol import Unknown
from service.site.folder import is_database, look


@pytest.fixture
def root(clinic):
    return clinic.work.root


def kinds(folder):
    return {one.name: one.kind for one in folder.entries}


def test_each_thing_is_what_it_is(root):
    database(root.folder / "site.sqlite")
    (root.folder / "other.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    (root.folder / "no.db").write_bytes(b"no database")
    (root.folder / "empty").mkdir()
    table(root.folder / "scans")
    bids(root.folder / "dataset")
    freesurfer(root.folder / "subjects")
    (root.folder / "output" / "results").mkdir(parents=True)
    (root.folder / "output" / "results" / "journal.jsonl").touch()
    assert kinds(found := look(root, "")) == {
        "site.sqlite": "database", "other.db": "other", "empty": "folder", "scans": "folder", "dataset": "bids",
        "subjects": "freesurfer", "output": "run",
    }  # fmt: skip
    assert (found.kind, found.passed, found.away, found.left) == ("folder", 1, 0, 0)
    assert kinds(look(root, "scans")) == {"table.csv": "table"} and look(root, "scans").passed == 8


def test_what_leads_out_or_nowhere_or_is_hidden_is_counted_or_silent(root, clinic):
    (root.folder / "out").symlink_to(clinic.outside)
    (root.folder / "dangling").symlink_to("nowhere")
    (root.folder / "loop").symlink_to("loop")
    (root.folder / ".site.db.parts").mkdir()
    os.mkfifo(root.folder / "pipe.csv")
    found = look(root, "")
    assert (found.entries, found.away, found.passed) == ((), 3, 1)
    with pytest.raises(Unknown):
        look(root, "out")


def test_a_pipe_called_like_a_database_is_not_waited_for(root):
    os.mkfifo(root.folder / "site.db")
    assert look(root, "").entries == () and not is_database(root.folder / "site.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_folder_is_told(root):
    (root.folder / "closed").mkdir(mode=0)
    try:
        assert kinds(look(root, "")) == {"closed": "folder"}
        with pytest.raises(ImportScanError, match="permissions"):
            look(root, "closed")
    finally:
        (root.folder / "closed").chmod(0o700)


def test_a_long_folder_is_looked_at_up_to_a_bound(root, monkeypatch):
    from service.site import folder as module

    monkeypatch.setattr(module, "MOST", 3)
    for number in range(5):
        (root.folder / f"{number}").mkdir()
    assert look(root, "").left == 2 and len(look(root, "").entries) == 3
