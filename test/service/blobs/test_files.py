"""Attacks on the URLs that the service signs itself, and on the folder."""

import hashlib
import os
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from full_disk import small_files

from service.blobs.base import SMALL, BlobError, BlobMissing
from service.blobs.files import Files
from service.protocol import Conflict, Forbidden, Gone, Malformed, TooLarge
from service.store.sqlite import SqliteStore

NOW = 1_000_000
CONTENT = b"values" * 100
SHA = hashlib.sha256(CONTENT).hexdigest()
KEY = "runs/x/steps/0000000001/a/id"


@pytest.fixture(params=["folder", "shelf"])
def files(request, tmp_path):
    small = SqliteStore(tmp_path / "s.db").shelf if request.param == "shelf" else None
    return Files(tmp_path / "files", small=small)


def query(signed):
    return dict(parse_qsl(urlsplit(signed.url).query, keep_blank_values=True))


def put(files, pieces=(CONTENT,), *, key=KEY, now=NOW, **changes):
    told = {**query(files.sign_put(KEY, len(CONTENT), SHA, NOW, 60)), **changes}
    with files.incoming(key, told, now) as incoming:
        for piece in pieces:
            incoming.write(piece)


def traces(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "key")


def test_what_was_announced_comes_in(files):
    put(files, [CONTENT[:7], b"", CONTENT[7:]])
    assert files.read(KEY, len(CONTENT)) == CONTENT
    signed = files.sign_get(KEY, NOW, 60, "model.bin")
    sent, name = files.outgoing(KEY, query(signed), NOW)
    assert (sent if isinstance(sent, bytes) else sent.read_bytes()) == CONTENT
    assert name == "model.bin"


def test_a_url_is_a_path_of_this_service_that_holds_no_secret(files, tmp_path):
    signed = files.sign_put(KEY, 5, SHA, NOW, 60)
    assert urlsplit(signed.url).path == f"/v1/blobs/{KEY}"
    assert (tmp_path / "files" / "key").read_bytes().hex() not in signed.url
    assert (signed.method, signed.expires) == ("PUT", NOW + 60_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "601"},
        {"sha256": "0" * 64},
        {"expires": str(NOW + 10**9)},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "ü"},
        {"more": "x"},
        {"key": "runs/y/other"},
    ],
    ids=str,
)
def test_a_url_of_which_anything_is_changed_is_refused(files, tmp_path, changes):
    with pytest.raises(Forbidden):
        put(files, **changes)
    assert traces(tmp_path / "files") == []


def test_a_url_is_for_one_verb(files):
    put(files)
    with pytest.raises(Forbidden):
        files.outgoing(KEY, query(files.sign_put(KEY, len(CONTENT), SHA, NOW, 60)), NOW)
    with pytest.raises(Forbidden), files.incoming(KEY, query(files.sign_get(KEY, NOW, 60)), NOW):
        pass
    with pytest.raises(Forbidden):
        files.outgoing(KEY, {}, NOW)


def test_a_url_expires(files, tmp_path):
    with pytest.raises(Gone):
        put(files, now=NOW + 60_000)
    put(files, now=NOW + 59_999)
    with pytest.raises(Gone):
        files.outgoing(KEY, query(files.sign_get(KEY, NOW, 60)), NOW + 60_000)


def test_a_url_is_used_once(files):
    put(files)
    with pytest.raises(Conflict):
        put(files)
    assert files.read(KEY, len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([CONTENT, b"x"], TooLarge),
        ([CONTENT[:-1]], Malformed),
        ([], Malformed),
        ([CONTENT[:-1] + b"x"], Malformed),
        ([b"y" * 10**6], TooLarge),
    ],
)
def test_what_was_not_announced_leaves_no_trace(files, tmp_path, pieces, error):
    with pytest.raises(error):
        put(files, pieces)
    assert traces(tmp_path / "files") == []
    with pytest.raises(BlobMissing):
        files.read(KEY, 10**6)
    put(files)


def test_a_client_that_goes_away_leaves_no_trace(files, tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        files.incoming(KEY, query(files.sign_put(KEY, 600, SHA, NOW, 60)), NOW) as one,
    ):
        one.write(CONTENT[:5])
        raise KeyboardInterrupt
    assert traces(tmp_path / "files") == []


def test_what_a_killed_process_left_behind_goes_after_a_day(tmp_path):
    Files(tmp_path / "files")
    for name, age in (("old", 90_000), ("new", 1000)):
        path = tmp_path / "files" / "partial" / name
        path.touch()
        os.utime(path, times=(time.time() - age,) * 2)
    Files(tmp_path / "files")
    assert traces(tmp_path / "files") == ["new"]


def test_a_restarted_service_serves_the_urls_of_before(files, tmp_path):
    signed = files.sign_put(KEY, len(CONTENT), SHA, NOW, 60)
    with Files(tmp_path / "files").incoming(KEY, query(signed), NOW) as incoming:
        incoming.write(CONTENT)


def test_another_service_does_not(files, tmp_path):
    told = query(files.sign_put(KEY, 600, SHA, NOW, 60))
    with pytest.raises(Forbidden), Files(tmp_path / "other").incoming(KEY, told, NOW):
        pass


def test_a_key_that_others_can_read_is_refused(files, tmp_path):
    assert (tmp_path / "files" / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "files" / "key").chmod(0o644)
    with pytest.raises(BlobError, match="others can read"):
        Files(tmp_path / "files")


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path):
    files = Files(tmp_path / "files")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files/content/runs").mkdir(parents=True)
    (tmp_path / "files/content/runs/a").symlink_to(tmp_path / "secret")
    with pytest.raises(BlobError):
        files.read("runs/a", 100)


def test_a_full_disk_leaves_no_trace(files, tmp_path):
    content = b"x" * 400_000
    with small_files(100_000), pytest.raises(BlobError, match="free some space"):
        files.write("runs/a", content)
    assert traces(tmp_path / "files") == []
    files.write("runs/a", content)


def test_what_lies_in_the_folder_goes_only_when_the_records_are_kept(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    files = Files(tmp_path / "files", small=store.shelf)
    large = b"x" * (SMALL + 1)
    for key in ("runs/x/a", "runs/x/steps/b"):
        files.write(key, large)

    def forgotten():
        files.delete("runs/x/a")
        files.delete_under("runs/x/steps")

    with pytest.raises(KeyError), store.together():
        forgotten()
        raise KeyError
    assert traces(tmp_path / "files") == ["a", "b"]
    with store.together():
        forgotten()
        assert files.read("runs/x/a", len(large)) == large
    assert traces(tmp_path / "files") == []
