"""Files appear whole or not at all."""

import errno

import pytest

from computation.files import replacing


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
