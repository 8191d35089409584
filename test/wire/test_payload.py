"""Payload: what is written is read bit for bit, and nothing else is ever read."""

import hashlib
import math
import os
import stat
import struct

import numpy as np
import pytest
from full_disk import small_files
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import PayloadError
from computation.wire import payload
from computation.wire.payload import CONTRIBUTION, HEADER_BYTES, MODEL, Manifest, Payload

FULL = "the transfer folder is full or may not be written; free some space"
SHAPES = st.lists(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4), min_size=1, max_size=6)
DIGEST = "cd" * 32
SENDER = {"site": "local1", "run": "ef" * 16}


def _manifest(shapes):
    return Manifest(tuple((f"layer{index}.weight", tuple(shape)) for index, shape in enumerate(shapes)))


@pytest.fixture
def sent(tmp_path):
    """A valid contribution on disk, and the arguments that read it."""
    manifest = _manifest([(3, 2), (5,)])
    values = np.arange(11, dtype=np.float32)
    path = tmp_path / "__cx_contribution.bin"
    payload.write(path, Payload(CONTRIBUTION, 7, manifest, values, DIGEST, **SENDER))
    expected = {"kind": CONTRIBUTION, "round": 7, "manifest": manifest, "dtype": np.float32, "model": DIGEST}
    return path, expected | SENDER


@settings(max_examples=60, deadline=None)
@given(shapes=SHAPES, dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32))
@example(shapes=[()], dtype=np.float32, seed=0)
@example(shapes=[(0,)], dtype=np.float64, seed=0)
def test_read_gives_back_every_bit(tmp_path_factory, shapes, dtype, seed):
    manifest = _manifest(shapes)
    bits = np.random.default_rng(seed).bytes(manifest.size * np.dtype(dtype).itemsize)
    values = np.frombuffer(bits, dtype)
    values = np.where(np.isfinite(values), values, dtype(5e-324 if dtype is np.float64 else 1e-45))
    path = tmp_path_factory.mktemp("payload") / "__cx_model.bin"
    signed = payload.write(path, Payload(MODEL, 0, manifest, values))
    assert path.stat().st_size == HEADER_BYTES + values.nbytes
    wanted = {"kind": MODEL, "round": 0, "manifest": manifest, "dtype": dtype}
    for whose in (signed, ""):
        assert payload.read(path, **wanted, signed=whose).tobytes() == values.tobytes()
    with pytest.raises(PayloadError, match="not the one that its sender signed"):
        payload.read(path, **wanted, signed="ab" * 32)


def test_a_meshnet_message_is_within_two_percent_of_its_values():
    assert (HEADER_BYTES + 4 * 5688) / (4 * 5688) <= 1.02


def test_file_is_readable_by_the_platforms_own_user(sent):
    path, _ = sent
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_full_folder_is_named_and_no_half_file_is_left(sent):
    """The file of the round before stays whole under its name; the bytes of the half one are given back."""
    path, expected = sent
    before = path.read_bytes()
    item = Payload(CONTRIBUTION, 8, expected["manifest"], np.ones(11, np.float32), DIGEST)
    with small_files(HEADER_BYTES + 10), pytest.raises(PayloadError, match=FULL) as caught:
        payload.write(path, item)
    assert str(path.parent) not in caught.value.public and str(path) in caught.value.private
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == before


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    manifest = _manifest([(2,)])
    with pytest.raises(PayloadError, match=FULL):
        payload.write(tmp_path / "gone" / "__cx_model.bin", Payload(MODEL, 0, manifest, np.ones(2, np.float32)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"round": 8}, "another round: 7; wanted 8"),
        ({"site": "local0"}, "another node's, copied"),
        ({"site": ""}, "another node's, copied"),
        ({"run": "ee" * 16}, "another run"),
        ({"run": ""}, "another run"),
        ({"kind": MODEL}, "another kind: 2; wanted 1"),
        ({"model": "ef" * 32}, "another model"),
        ({"manifest": Manifest((("a", (11,)),))}, "another shapes"),
        ({"manifest": Manifest((("a", (12,)),))}, "truncated: 236 bytes; wanted 240"),
        ({"manifest": Manifest((("a", (10,)),))}, "oversized: 236 bytes; wanted 232"),
        ({"dtype": np.float64}, "truncated: 236 bytes; wanted 280"),
    ],
)
def test_what_was_not_expected_is_refused(sent, changes, said):
    path, expected = sent
    with pytest.raises(PayloadError) as caught:
        payload.read(path, **{**expected, **changes})
    assert said in caught.value.public
    assert str(path) not in caught.value.public


def test_dtype_of_the_same_length_is_refused(tmp_path):
    path = tmp_path / "__cx_model.bin"
    payload.write(path, Payload(MODEL, 0, _manifest([(4,)]), np.ones(4, np.float32)))
    with pytest.raises(PayloadError, match="another dtype"):
        payload.read(path, kind=MODEL, round=0, manifest=_manifest([(2,)]), dtype=np.float64)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, bad):
    path = tmp_path / "__cx_model.bin"
    payload.write(path, Payload(MODEL, 0, _manifest([(3,)]), np.array([1, bad, 2], np.float32)))
    with pytest.raises(PayloadError, match="1 values that are NaN or infinite"):
        payload.read(path, kind=MODEL, round=0, manifest=_manifest([(3,)]), dtype=np.float32)


def test_links_folders_and_pipes_are_refused(sent, tmp_path):
    path, expected = sent
    link, folder, pipe = tmp_path / "link", tmp_path / "folder", tmp_path / "pipe"
    link.symlink_to(path)
    folder.mkdir()
    os.mkfifo(pipe)
    for other in (link, folder, pipe):
        with pytest.raises(PayloadError, match="plain file"):
            payload.read(other, **expected)
    with pytest.raises(PayloadError, match="did not arrive"):
        payload.read(tmp_path / "nothing", **expected)


def test_duplicate_and_absurd_manifests_are_refused():
    with pytest.raises(PayloadError, match="names 'a' twice"):
        Manifest((("a", (1,)), ("a", (2,))))
    with pytest.raises(PayloadError, match="cannot be"):
        Manifest((("a", (2**40,)),))
    with pytest.raises(PayloadError, match="cannot be"):
        Manifest((("a", (-1,)),))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_fuzzed_bytes_are_read_as_sent_or_refused(tmp_path_factory, data):
    manifest = _manifest([(3, 2), (5,)])
    values = np.arange(11, dtype=np.float32)
    path = tmp_path_factory.mktemp("fuzz") / "__cx_contribution.bin"
    payload.write(path, Payload(CONTRIBUTION, 7, manifest, values, DIGEST, **SENDER))
    blob = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(blob)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip" and where < len(blob):
            blob[where] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del blob[where:]
        else:
            blob[where:where] = data.draw(st.binary(min_size=1, max_size=40))
    path.write_bytes(blob)
    expected = {"kind": CONTRIBUTION, "round": 7, "manifest": manifest, "dtype": np.float32, "model": DIGEST}
    try:
        back = payload.read(path, **expected, **SENDER)
    except PayloadError as error:
        assert error.public
    else:
        assert back.tobytes() == values.tobytes()


def test_digest_sees_every_bit_of_values_names_and_dtype():
    manifest, values = _manifest([(4,)]), np.zeros(4, np.float32)
    other = values.copy()
    other[0] = -0.0
    digests = {
        payload.digest(manifest, values),
        payload.digest(manifest, other),
        payload.digest(_manifest([(2, 2)]), values),
        payload.digest(manifest, values.astype(np.float64)),
    }
    assert len(digests) == 4


def test_header_layout_is_the_documented_one(sent):
    path, expected = sent
    blob = path.read_bytes()
    assert blob[:8] == b"CXMESH\x00\x02"
    assert struct.unpack_from("<BBHIQ", blob, 8) == (2, 1, 0, 7, 11)
    assert blob[24:56].hex() == expected["manifest"].digest
    assert blob[56:88].hex() == DIGEST
    assert blob[88:120] == hashlib.sha256(b"local1").digest()
    assert blob[120:152] == hashlib.sha256(b"ef" * 16).digest()
    assert blob[152:184] == hashlib.sha256(blob[:152] + blob[192:]).digest() and blob[184:192] == bytes(8)
