"""Files appear whole or not at all."""

import errno
import os

import pytest

from computation.files import following, replacing, succession


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
    for name in ("rename", "replace", "unlink"):
        move = getattr(type(path), name)

        def moved(self, *given, move=move, **named):
            made = move(self, *given, **named)
            seen.append(whole(path))
            return made

        monkeypatch.setattr(type(path), name, moved)
    for text in ("one", "two", "three"):
        with following(path) as partial:
            partial.write_text(text)
    assert [one.read_text() for one in succession(path)] == ["three", "two", "one"]
    assert set(tmp_path.iterdir()) == set(succession(path))
    # Never nothing, and never the one before the last.
    assert seen == ["one", "one", "two", "two", "two", "three"]


def test_of_a_file_that_follows_one_is_on_the_disk_that_is_some_seconds_old(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_size), sync(number)))
    for length in range(1, 31):
        with following(path) as partial:
            partial.write_text("x" * length)
        os.utime(path, (length, length))  # one is written every second
    assert synced == [1, 11, 21]
    assert [len(one.read_text()) for one in succession(path)] == [30, 29, 21]
    os.utime(succession(path)[2], (1e6, 1e6))  # a clock that was put back
    with following(path) as partial:
        partial.write_text("new")
    assert len(synced) == 4


def test_who_was_killed_between_two_moves_goes_on(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two"):
        with following(path) as partial:
            partial.write_text(text)
    path.unlink()
    with pytest.raises(OSError, match="full"), following(path):
        raise OSError(errno.ENOSPC, "full")
    assert whole(path) == "one"
    with following(path) as partial:
        partial.write_text("three")
    assert whole(path) == "three"
