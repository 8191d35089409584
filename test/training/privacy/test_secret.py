"""A site's secret: its owner's alone, there again after a restart, and good for one answer a round."""

import stat

import pytest
from full_disk import small_files

from computation.errors import MeshNetError, PrivacyError, ResumeError
from computation.training.privacy.secret import Secret


def test_a_secret_is_its_owners_alone_and_comes_back(tmp_path):
    folder = tmp_path / "checkpoints"
    key = Secret(folder).key
    assert stat.S_IMODE((folder / "privacy.key").stat().st_mode) == 0o600
    assert len(key) == 32
    assert Secret(folder, resumed=True).key == Secret(folder).key == key
    assert Secret(tmp_path / "other").key != key


def test_a_round_is_answered_for_one_purpose_over_restarts(tmp_path):
    first = Secret(tmp_path)
    use = first.use(1, "run, model A")
    assert first.use(1, "run, model A") == use
    again = Secret(tmp_path, resumed=True)
    assert again.use(1, "run, model A") == use
    with pytest.raises(PrivacyError, match="round 1 was answered for another model"):
        again.use(1, "run, model B")
    assert again.use(2, "run, model B") != use
    assert stat.S_IMODE((tmp_path / "privacy.log").stat().st_mode) == 0o600


def test_a_line_that_was_cut_off_was_never_acted_upon(tmp_path):
    Secret(tmp_path).use(1, "A")
    book = tmp_path / "privacy.log"
    with book.open("ab") as file:
        file.write(b"2 abc")
    again = Secret(tmp_path, resumed=True)
    again.use(2, "B")
    last = Secret(tmp_path, resumed=True)
    for round, other in ((1, "B"), (2, "A")):
        with pytest.raises(PrivacyError):
            last.use(round, other)


def test_a_line_of_which_a_full_disk_took_half_hides_no_later_one(tmp_path):
    """The site skips the round and goes on; whoever restarts it later gets no second answer."""
    ours = Secret(tmp_path)
    ours.use(1, "A")
    with small_files((tmp_path / "privacy.log").stat().st_size + 10), pytest.raises(OSError, match="too large"):
        ours.use(2, "A")
    ours.use(3, "A")
    with pytest.raises(PrivacyError):
        Secret(tmp_path, resumed=True).use(3, "B")


def test_a_run_that_goes_on_without_its_secret_ends(tmp_path):
    with pytest.raises(ResumeError, match="secret of this site's noise is gone"):
        Secret(tmp_path, resumed=True)


@pytest.mark.parametrize("left", [b"", b"short", bytes(33)])
def test_what_is_no_secret_is_refused(tmp_path, left):
    (tmp_path / "privacy.key").write_bytes(left)
    with pytest.raises(MeshNetError, match="damaged"):
        Secret(tmp_path)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(bytes(32))
    (tmp_path / "privacy.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResumeError):
        Secret(tmp_path)


def test_a_full_disk_keeps_no_half_of_a_secret(tmp_path):
    with small_files(10), pytest.raises(MeshNetError, match="output folder is full"):
        Secret(tmp_path)
    assert len(Secret(tmp_path).key) == 32
