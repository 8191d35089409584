"""Files appear whole or not at all."""

import errno
import os

import pytest
from full_disk import small_files

from computation.files import follow, overwrite, replacing, succession


def test_the_new_file_takes_the_old_one_s_place(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), ValueError("odd"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(failure)), replacing(path, tmp_path / "named") as partial:
        assert partial == tmp_path / "named"
        partial.write_text("ne")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_take_its_place_goes(tmp_path):
    path = tmp_path / "folder"
    (path / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"), replacing(path) as partial:
        partial.write_text("new")
    assert list(tmp_path.iterdir()) == [path]


def whole(path):
    """Return what a reader finds: the first that is there."""
    return next((one.read_text() for one in succession(path) if one.exists()), None)


def test_a_file_that_follows_another_leaves_a_whole_one_at_every_moment(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    for where, name in ((type(path), "rename"), (type(path), "replace"), (os, "ftruncate")):
        move = getattr(where, name)

        def moved(*given, move=move):
            made = move(*given)
            seen.append(whole(path))
            return made

        monkeypatch.setattr(where, name, moved)
    for text in ("one", "two", "three", "four"):
        follow(path, text.encode())
    assert [one.read_text() for one in succession(path)] == ["four", "three", "one"]
    assert set(tmp_path.iterdir()) == set(succession(path))
    # Never nothing, and never the one before the last: written, moved; written, moved aside, moved; and so on.
    third = ["two", "two", "two", "three"]
    assert seen == [None, "one", "one", "one", "two", *third, "three", "three", "three", "four"]


def test_of_a_file_that_follows_one_is_on_the_disk_that_is_some_seconds_old(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_size), sync(number)))
    for length in range(1, 31):
        follow(path, b"x" * length)
        os.utime(path, (length, length))  # one is written every second
    assert synced == [1, 11, 21]
    assert [len(one.read_text()) for one in succession(path)] == [30, 29, 21]
    os.utime(succession(path)[2], (1e6, 1e6))  # a clock that was put back
    follow(path, b"new")
    assert len(synced) == 4


def test_who_was_killed_between_two_moves_goes_on(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two"):
        follow(path, text.encode())
    path.unlink()
    with small_files(1), pytest.raises(OSError, match="large"):
        follow(path, b"half")
    assert whole(path) == "one"
    follow(path, b"three")
    assert whole(path) == "three"


def test_a_file_is_written_over_whatever_its_length_was(tmp_path):
    path = tmp_path / "file"
    for pieces in ([b"abc", b"", memoryview(b"defg")], [b"xy"], [], [b"longer than ever"]):
        overwrite(path, pieces)
        assert path.read_bytes() == b"".join(pieces)


def test_a_second_name_keeps_what_it_holds_and_a_pipe_is_not_waited_for(tmp_path):
    path, backup, pipe = tmp_path / "file", tmp_path / "backup", tmp_path / "pipe"
    path.write_text("a round ago")
    os.link(path, backup)
    os.mkfifo(pipe)
    overwrite(path, [b"now"])
    overwrite(pipe, [b"now"])
    assert (backup.read_text(), path.read_text(), pipe.read_text()) == ("a round ago", "now", "now")


def test_what_a_full_disk_cuts_off_goes_and_a_link_is_not_followed(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    with small_files(100), pytest.raises(OSError, match="large"):
        overwrite(path, [b"x" * 99, b"yy"])
    assert not path.exists()
    other.write_text("mine")
    path.symlink_to(other)
    overwrite(path, [b"theirs"])
    assert (other.read_text(), path.read_text(), path.is_symlink()) == ("mine", "theirs", False)
