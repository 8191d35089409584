"""What every place for files must do; each test runs over each of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.blobs.base import BlobError, BlobExists, BlobMissing

#: Small enough for a shelf, and too large for one.
CONTENTS = [b"", b"a", b"\x00" * 4096, b"b" * 300_000]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_a_file_comes_back_as_it_went(blobs, content):
    blobs.write("runs/x/a.bin", content)
    assert blobs.read("runs/x/a.bin", len(content)) == content


@pytest.mark.parametrize("content", CONTENTS[1:], ids=len)
def test_a_file_never_changes(blobs, content):
    blobs.write("runs/x/a", content)
    blobs.write("runs/x/a", content)
    for other in (b"", content[:-1], content + b"c", b"z" * len(content)):
        with pytest.raises(BlobExists):
            blobs.write("runs/x/a", other)
    assert blobs.read("runs/x/a", 10**6) == content


@pytest.mark.parametrize("content", CONTENTS[1:], ids=len)
def test_no_more_is_read_than_was_asked_for(blobs, content):
    blobs.write("runs/x/a", content)
    with pytest.raises(BlobMissing):
        blobs.read("runs/x/a", len(content) - 1)


def test_what_is_not_there_is_missing(blobs):
    with pytest.raises(BlobMissing):
        blobs.read("runs/x/a", 10)
    blobs.delete("runs/x/a")
    blobs.delete_under("runs/x")


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_what_is_deleted_is_gone(blobs, content):
    blobs.write("runs/x/a", content)
    blobs.delete("runs/x/a")
    with pytest.raises(BlobMissing):
        blobs.read("runs/x/a", 10**6)
    blobs.write("runs/x/a", b"another")


@pytest.mark.parametrize("content", CONTENTS[1:], ids=len)
def test_a_folder_is_deleted_whole_and_alone(blobs, content):
    for key in ("runs/x/a", "runs/x/y/b", "runs/xx/a", "runs/w/a"):
        blobs.write(key, content)
    blobs.delete_under("runs/x")
    for key in ("runs/x/a", "runs/x/y/b"):
        with pytest.raises(BlobMissing):
            blobs.read(key, 10**6)
    for key in ("runs/xx/a", "runs/w/a"):
        assert blobs.read(key, 10**6) == content


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "a/.b", "a b", "a\n", "a\x00", "ä", "a" * 200, "a\\b", "."],
)
def test_a_key_names_nothing_outside(blobs, key):
    for use in (
        lambda: blobs.write(key, b"x"),
        lambda: blobs.read(key, 1),
        lambda: blobs.delete(key),
        lambda: blobs.delete_under(key),
        lambda: blobs.sign_get(key, 0, 60),
        lambda: blobs.sign_put(key, 1, "a" * 64, 0, 60),
    ):
        with pytest.raises(BlobError):
            use()


@pytest.mark.parametrize("size", [100, 300_000])
def test_of_many_that_write_one_key_one_does(blobs, size):
    def write(number):
        try:
            blobs.write("runs/x/a", bytes([number]) * size)
        except BlobExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(8)) if number is not None]
    assert [blobs.read("runs/x/a", size)[0]] == winners
