"""Files that the platform left packed: found by name and exact length, and nothing else is ever unpacked."""

import gzip
import io
import os
import shutil
import tarfile
import time
import tracemalloc

import numpy as np
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


def test_a_name_in_the_gzip_header_costs_no_time(tmp_path):
    """Fifty megabytes of it took Python's own reader eight seconds, a byte at a time."""
    plain = _archive([(NAME, b"abc")])
    named = plain[:3] + bytes([plain[3] | 8]) + plain[4:10] + b"n" * 50_000_000 + b"\0" + plain[10:]
    _leave(tmp_path, named, parts=3)
    began = time.monotonic()
    assert left_packed(tmp_path, NAME, 3) is None
    assert time.monotonic() - began < 2
    short = plain[:3] + bytes([plain[3] | 8]) + plain[4:10] + b"n" * 50_000 + b"\0" + plain[10:]
    _leave(tmp_path, short, parts=3)
    assert left_packed(tmp_path, NAME, 3) == b"abc"


def test_all_parts_together_have_a_limit(tmp_path):
    rng = np.random.default_rng(0)
    _leave(tmp_path, _archive([("stray", rng.bytes(300_000)), (NAME, b"abc")]), parts=4)
    assert left_packed(tmp_path, NAME, 3) is None
    _leave(tmp_path, _archive([("stray", rng.bytes(200_000)), (NAME, b"abc")]), parts=4)
    assert left_packed(tmp_path, NAME, 3) == b"abc"


def test_only_plain_files_are_parts(tmp_path):
    """A pipe waits for its other end, a link leads to what another site sent."""
    _leave(tmp_path / "local0", _archive([(NAME, b"abc")]))
    packed = tmp_path / "local0" / "run-local1-tempOutput.tar.gz.0"
    for kind, make in {"pipe": os.mkfifo, "link": lambda path: path.symlink_to(packed), "folder": os.mkdir}.items():
        (tmp_path / kind).mkdir()
        make(tmp_path / kind / packed.name)
        assert left_packed(tmp_path / kind, NAME, 3) is None
    assert left_packed(tmp_path / "local0", NAME, 3) == b"abc"


@pytest.mark.parametrize("size", [b"-0000000003\0", b"77777777777\0", b"\x80" + bytes(10) + b"\3", bytes(12)])
def test_a_size_that_cannot_be_is_an_archive_without_the_file(tmp_path, size):
    head = tarfile.TarInfo("other").tobuf(tarfile.USTAR_FORMAT)
    follows = gzip.decompress(_archive([(NAME, b"abc")]))
    _leave(tmp_path, gzip.compress(head[:124] + size + head[136:] + follows))
    assert left_packed(tmp_path, NAME, 3) is None


def test_another_sites_archive_is_not_this_sites(tmp_path):
    """Site local1 has local0's whole archive under its own name: the header in the file tells whose it is."""

    def copy(loop, client, iteration):
        folder = loop.folder("input", "remote")
        if client == "remote" and iteration == 3:
            (folder / "local1" / NAME).unlink()
            _leave(folder / "local1", _archive([(NAME, (folder / "local0" / NAME).read_bytes())]))

    loop = consortium(tmp_path)
    loop.run(copy)
    verdicts = [reply["output"] for client, _, reply in loop.log if client == "remote"]
    assert verdicts[2]["counted"] == ["local0"]
    assert "another node's" in verdicts[2]["skipped"]["local1"]


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
