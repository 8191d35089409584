"""Files that the platform left packed: found by name and exact length, and nothing else is ever unpacked."""

import gzip
import io
import shutil
import tarfile
import tracemalloc

import pytest
from consortium import consortium
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.coinstac.arrivals import left_packed

NAME = "__cx_contribution.bin"


def _archive(members, **kinds):
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kinds.get("type", tarfile.REGTYPE)
            archive.addfile(info, io.BytesIO(data))
    return blob.getvalue()


def _leave(folder, blob, parts=1):
    folder.mkdir(parents=True, exist_ok=True)
    step = -(-len(blob) // parts)
    for number in range(parts):
        (folder / f"run-local1-tempOutput.tar.gz.{number}").write_bytes(blob[number * step : (number + 1) * step])


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_the_file_is_found_whatever_the_number_of_parts(tmp_path, parts):
    _leave(tmp_path, _archive([("stray.txt", b"hello"), (NAME, b"x" * 1000)]), parts)
    assert left_packed(tmp_path, NAME, 1000) == b"x" * 1000
    assert left_packed(tmp_path, NAME, 999) is None
    assert left_packed(tmp_path, "other", 1000) is None


def test_no_archive_no_file(tmp_path):
    assert left_packed(tmp_path, NAME, 10) is None


def test_links_and_bombs_are_not_followed(tmp_path):
    _leave(tmp_path / "link", _archive([(NAME, b"")], type=tarfile.SYMTYPE))
    assert left_packed(tmp_path / "link", NAME, 0) is None
    _leave(tmp_path / "bomb", _archive([("zeros", bytes(10_000_000)), (NAME, b"abc")]))
    assert left_packed(tmp_path / "bomb", NAME, 3) is None
    _leave(tmp_path / "many", _archive([(f"file{number}", b"") for number in range(70)] + [(NAME, b"abc")]))
    assert left_packed(tmp_path / "many", NAME, 3) is None


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_cannot_fill_the_memory(tmp_path, kind):
    info = tarfile.TarInfo("name")
    info.size, info.type = 30_000_000, kind
    _leave(tmp_path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(info.size + 1024), 1))
    tracemalloc.start()
    try:
        assert left_packed(tmp_path, NAME, 100) is None
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_headers_upon_headers_are_an_archive_without_the_file(tmp_path):
    info = tarfile.TarInfo("name")
    info.size, info.type = 0, tarfile.GNUTYPE_LONGNAME
    _leave(tmp_path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * 3000))
    assert left_packed(tmp_path, NAME, 10**6) is None


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_gives_the_file_or_nothing(tmp_path_factory, data):
    blob = bytearray(_archive([(NAME, b"x" * 100)]))
    where = data.draw(st.integers(0, len(blob) - 1))
    if data.draw(st.booleans()):
        blob[where] ^= data.draw(st.integers(1, 255))
    else:
        del blob[where:]
    folder = tmp_path_factory.mktemp("fuzz")
    _leave(folder, bytes(blob))
    found = left_packed(folder, NAME, 100)
    assert found is None or len(found) == 100


def test_a_run_goes_on_when_the_platform_leaves_files_packed(tmp_path):
    """Site local1's file stays packed in every round, beside the stale one of round 1."""

    def pack(loop, client, iteration):
        folder = loop.folder("input", "remote") / "local1"
        if client == "remote" and iteration > 2 and (folder / NAME).exists():
            fresh = (folder / NAME).read_bytes()
            _leave(folder, _archive([(NAME, fresh)]))
            shutil.copy(tmp_path / "stale", folder / NAME)
        elif client == "remote" and iteration == 2:
            shutil.copy(folder / NAME, tmp_path / "stale")

    packed = consortium(tmp_path / "packed").run(pack)
    assert packed == consortium(tmp_path / "plain").run()
