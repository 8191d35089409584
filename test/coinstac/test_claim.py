"""One run at a time in an output folder: whoever comes second is noticed, and nothing of an earlier run is lost."""

import errno
import shutil

import pytest

from computation.coinstac import claim
from computation.errors import MeshNetError

UNWRITABLE = "the output folder is full or may not be written"


def test_a_new_folder_is_made_and_held(tmp_path):
    token = claim.take(tmp_path / "run" / "output")
    with claim.holding(tmp_path / "run" / "output", token):
        pass
    assert [path.name for path in (tmp_path / "run" / "output").iterdir()] == [claim.FILE]


def test_every_run_finds_an_empty_folder_and_the_earlier_ones_on_the_shelf(tmp_path):
    tokens = []
    for number in range(3):
        tokens.append(claim.take(tmp_path))
        (tmp_path / "journal.jsonl").write_text(str(number))
    assert len(set(tokens)) == 3
    shelf = tmp_path / "earlier-runs"
    assert [(shelf / name / "journal.jsonl").read_text() for name in ("0001", "0002")] == ["0", "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [claim.FILE, "earlier-runs", "journal.jsonl"]


def test_an_earlier_run_may_be_thrown_away_and_other_things_may_lie_on_the_shelf(tmp_path):
    shelf = tmp_path / "earlier-runs"
    for number in range(3):
        claim.take(tmp_path)
        (tmp_path / "journal.jsonl").write_text(str(number))
    shutil.rmtree(shelf / "0001")
    (shelf / ".DS_Store").write_text("")
    claim.take(tmp_path)
    assert {path.name for path in shelf.iterdir()} == {"0002", "0003", ".DS_Store"}
    assert (shelf / "0003" / "journal.jsonl").read_text() == "2"


@pytest.mark.parametrize("spoil", [claim.take, lambda folder: (folder / claim.FILE).unlink()])
def test_a_lost_folder_is_noticed(tmp_path, spoil):
    token = claim.take(tmp_path)
    spoil(tmp_path)
    with pytest.raises(MeshNetError, match="another run") as caught:
        claim.check(tmp_path, token)
    assert str(tmp_path) not in caught.value.public


def test_a_failure_is_put_down_to_the_run_that_caused_it(tmp_path):
    token = claim.take(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(MeshNetError, match="another run"), claim.holding(tmp_path, token):
        claim.take(tmp_path)
        (tmp_path / "checkpoints" / "one").write_text("")


@pytest.mark.parametrize("when", ["mkdir", "rename", "open"])
def test_two_that_begin_at_once_do_not_both_get_the_folder(tmp_path, monkeypatch, when):
    """The other comes in between before any step of the first."""
    (tmp_path / "old").write_text("")
    kind, plain = type(tmp_path), getattr(type(tmp_path), when)
    tokens = []

    def interrupted(self, *words, **options):
        if self != tmp_path and not tokens:
            tokens.append("")  # the other's own steps are not interrupted
            tokens[0] = claim.take(tmp_path)
        return plain(self, *words, **options)

    monkeypatch.setattr(kind, when, interrupted)
    try:
        first = claim.take(tmp_path)
    except MeshNetError as error:
        assert "another run" in error.public
        claim.check(tmp_path, tokens[0])
    else:
        claim.check(tmp_path, first)
        with pytest.raises(MeshNetError, match="another run"):
            claim.check(tmp_path, tokens[0])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_or_read_only_disk_is_named_whatever_met_it(tmp_path, code):
    with pytest.raises(MeshNetError, match=UNWRITABLE), claim.holding(tmp_path, claim.take(tmp_path)):
        raise OSError(code, "as write() says it")


def test_other_failures_stay_what_they_are(tmp_path):
    with pytest.raises(ConnectionError), claim.holding(tmp_path, claim.take(tmp_path)):
        raise ConnectionError


def test_a_folder_that_is_none_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "output"):
        with pytest.raises(MeshNetError, match=UNWRITABLE):
            claim.take(folder)
