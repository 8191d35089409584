"""Blocks tile a volume exactly, come back bit for bit, and survive anything that a bad disk can do to them."""

import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.scans.store import blocks, filters
from computation.scans.store.assembly import assemble
from computation.scans.store.blocks import BlockGrid, Box
from computation.scans.store.faults import Fault, ScanFault

SHAPES = st.tuples(*[st.integers(1, 13)] * 3)
SIDES = st.integers(1, 9)


@st.composite
def boxes(draw, shape):
    origin = tuple(draw(st.integers(0, side - 1)) for side in shape)
    return Box(origin, tuple(draw(st.integers(1, side - start)) for side, start in zip(shape, origin, strict=True)))


MOST = {"zstd+bits2": 4, "zstd+bits4": 16}
FITTING = {
    "uint8": ["zstd", "zstd+delta", "zstd+shuffle"],
    "int16": ["zstd", "zstd+delta", "zstd+shuffle"],
    "uint16": ["zstd", "zstd+delta", "zstd+shuffle"],
    "float32": ["zstd", "zstd+shuffle"],
}


def decoded(data, crc32, size, dtype, codec="zstd", start=0):
    raw = blocks.unpack(data, crc32, size, np.dtype(dtype), zstandard.ZstdDecompressor(), codec, start)
    return filters.undo(codec, raw, size, np.dtype(dtype)) if raw else np.zeros(size, dtype)


@settings(max_examples=150, deadline=None)
@given(st.data(), SHAPES, SIDES)
def test_any_sub_volume_of_any_blocks_is_that_of_the_volume(data, shape, side):
    """For every codec and type, also where blocks at the edge are smaller and blocks of zeros are left out."""
    dtype = np.dtype(data.draw(st.sampled_from(sorted(FITTING))))
    packing = list(MOST) if dtype == np.uint8 else []
    codec = data.draw(st.sampled_from(FITTING[dtype.name] + packing))
    volume = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, MOST.get(codec, 200), shape).astype(dtype)
    volume[: shape[0] // 2] = 0
    grid, box = BlockGrid(shape, side), data.draw(boxes(shape))
    places = [grid.box(block) for run in grid.runs(box) for block in run]
    found = [(here, filters.apply(codec, volume[here.slices()])) for here in places if volume[here.slices()].any()]
    voxels = assemble(grid, box, found, codec, dtype)
    assert voxels.dtype == dtype and voxels.tobytes() == np.ascontiguousarray(volume[box.slices()]).tobytes()


@settings(deadline=None)
@given(st.data(), SHAPES, SIDES)
def test_sweeps_cut_a_box_between_blocks_and_touch_few(data, shape, side):
    grid, box = BlockGrid(shape, side), data.draw(boxes(shape))
    parts = list(grid.sweeps(box))
    assert [start for part in parts for start in range(part.origin[0], part.stop[0])] == [
        *range(box.origin[0], box.stop[0])
    ]
    for part in parts:
        assert (part.origin[1:], part.size[1:]) == (box.origin[1:], box.size[1:])
        assert sum(map(len, grid.runs(part))) <= 64 or part.size[0] <= side
    touched = [block for part in parts for run in grid.runs(part) for block in run]
    assert len(touched) == len(set(touched)), "no block is read twice"


@settings(deadline=None)
@given(SHAPES, SIDES)
def test_blocks_tile_the_volume_once(shape, side):
    grid = BlockGrid(shape, side)
    seen = np.zeros(shape, int)
    for block in range(len(grid)):
        seen[grid.box(block).slices()] += 1
    assert (seen == 1).all()


@settings(deadline=None)
@given(st.data(), SHAPES, SIDES)
def test_runs_are_the_blocks_that_a_box_touches_and_no_others(data, shape, side):
    grid = BlockGrid(shape, side)
    box = data.draw(boxes(shape))
    owner = np.zeros(shape, int)
    for block in range(len(grid)):
        owner[grid.box(block).slices()] = block
    touched = [block for run in grid.runs(box) for block in run]
    assert touched == sorted(set(owner[box.slices()].ravel().tolist()))


@settings(deadline=None)
@given(st.data())
def test_a_box_meets_another_where_both_are(data):
    one, other = data.draw(boxes((9, 8, 7))), data.draw(boxes((9, 8, 7)))
    both = np.zeros((9, 8, 7), bool)
    both[other.slices()] = True
    inside = np.zeros_like(both)
    inside[one.slices()] = both[one.slices()]
    if inside.any():
        found = np.zeros_like(both)
        found[one.meet(other).slices()] = True
        assert (found == inside).all()


@settings(deadline=None)
@given(
    st.sampled_from(blocks.DTYPES).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    )
)
def test_a_block_comes_back_bit_for_bit(voxels):
    data, crc32 = blocks.encode(voxels)
    back = decoded(data, crc32, voxels.shape, voxels.dtype)
    assert back.dtype == voxels.dtype
    assert back.tobytes() == voxels.tobytes()


def test_a_block_of_zeros_takes_no_bytes():
    assert blocks.encode(np.zeros((32, 32, 32), np.uint16)) == (b"", 0)


def test_big_endian_and_strided_blocks_are_stored_little_endian():
    voxels = np.arange(27, dtype=">i2").reshape(3, 3, 3).transpose(2, 0, 1)
    assert (decoded(*blocks.encode(voxels), (3, 3, 3), "int16") == voxels).all()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_codec_gives_back_every_block(data):
    """And leaves the voxels that it was given as they were."""
    dtype = data.draw(st.sampled_from(sorted(FITTING)))
    codec = data.draw(st.sampled_from(FITTING[dtype]))
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    voxels = data.draw(hnp.arrays(dtype, shape))
    before = voxels.copy()
    found = decoded(*blocks.encode(voxels, codec, 7), shape, dtype, codec, 7)
    assert found.tobytes() == voxels.tobytes() == before.tobytes() and found.dtype == dtype


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from([("zstd+bits2", 3), ("zstd+bits4", 15)]))
def test_few_classes_are_packed_into_bits(data, codec):
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    voxels = data.draw(hnp.arrays("uint8", shape, elements=st.integers(0, codec[1])))
    assert filters.size_of(codec[0], shape, voxels.dtype) == -(-voxels.size * (2 if codec[1] == 3 else 4) // 8)
    assert (decoded(*blocks.encode(voxels, codec[0]), shape, "uint8", codec[0]) == voxels).all()


def test_the_first_axis_of_the_packed_bits_is_the_fastest_voxel_and_the_lowest_bits():
    """The file format, stated in numbers."""
    assert filters.apply("zstd+bits2", np.array([[[1, 2, 3, 0, 1]]], np.uint8)) == bytes([0b00111001, 1])
    assert filters.apply("zstd+delta", np.array([[[1, 4]], [[2, 9]]], np.uint8)) == bytes([1, 1, 3, 4])
    assert filters.apply("zstd+shuffle", np.array([[[0x0102, 0x0304]]], np.uint16)) == bytes([2, 4, 1, 3])


@pytest.mark.parametrize(
    ("kind", "dtype", "highest", "codec"),
    [
        ("image", "uint8", 255, "zstd+delta"),
        ("image", "int16", 900, "zstd+delta"),
        ("image", "float32", 1, "zstd+shuffle"),
        ("label", "uint8", 3, "zstd+bits2"),
        ("label", "uint8", 4, "zstd+bits4"),
        ("label", "uint8", 16, "zstd"),
        ("label", "int16", 2, "zstd"),
    ],
)
def test_which_codec_a_volume_gets(kind, dtype, highest, codec):
    assert filters.codec_of(kind, np.array([[[0, highest]]], dtype)) == codec


def test_a_checksum_covers_the_place():
    data, crc32 = blocks.encode(np.ones((2, 2, 2), np.uint8), "zstd", blocks.place(1, "image", 5))
    with pytest.raises(ScanFault):
        decoded(data, crc32, (2, 2, 2), "uint8", "zstd", blocks.place(1, "image", 6))
    places = {blocks.place(scan, kind, block) for scan in (1, 11) for kind in ("image", "label") for block in (1, 11)}
    assert len(places) == 8


def test_an_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="unknown codec"):
        blocks.encode(np.ones((2, 2, 2), np.uint8), "gzip")


class TestDamage:
    voxels = np.random.default_rng(5).integers(0, 900, (8, 8, 8)).astype(np.uint16)
    data, crc32 = blocks.encode(voxels)

    def fault(self, data, crc32, size=(8, 8, 8)):
        with pytest.raises(ScanFault) as caught:
            decoded(data, crc32, size, "uint16")
        return caught.value

    def test_one_flipped_bit_fails_the_checksum(self):
        for place in range(0, len(self.data), 37):
            bad = bytearray(self.data)
            bad[place] ^= 1
            fault = self.fault(bytes(bad), self.crc32)
            assert fault.fault is Fault.CHECKSUM
            assert "does not match its stored checksum" in fault.public
            assert f"{self.crc32:#010x}" in fault.private

    def test_a_truncated_block_whose_checksum_was_made_to_fit_is_corrupt(self):
        short = self.data[:-5]
        fault = self.fault(short, zlib.crc32(short))
        assert fault.fault is Fault.CORRUPT
        assert "cannot be decompressed" in fault.public

    def test_a_block_of_another_size_is_refused_before_it_is_decompressed(self):
        fault = self.fault(self.data, self.crc32, (8, 8, 7))
        assert fault.fault is Fault.TRUNCATED
        assert "another size than its place in the volume wants" in fault.public

    def test_a_decompression_bomb_is_refused_by_its_declared_size(self):
        bomb = zstandard.compress(bytes(1 << 24))
        assert self.fault(bomb, zlib.crc32(bomb)).fault is Fault.TRUNCATED

    def test_bytes_after_the_frame_are_refused(self):
        longer = self.data + self.data
        assert self.fault(longer, zlib.crc32(longer)).fault is Fault.CORRUPT

    @settings(max_examples=400, deadline=None)
    @given(st.data())
    def test_fuzz_the_only_outcomes_are_a_value_or_one_named_error(self, data):
        """Mutated, cut, spliced and random bytes, with a checksum that fits so that the decoder is really reached."""
        kind = data.draw(st.sampled_from(["random", "flip", "cut", "splice"]))
        bad = bytearray(self.data)
        if kind == "random":
            bad = bytearray(data.draw(st.binary(max_size=200)))
        elif kind == "flip":
            for _ in range(data.draw(st.integers(1, 8))):
                bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            bad = bad[data.draw(st.integers(0, len(bad))) : data.draw(st.integers(0, len(bad)))]
        else:
            place = data.draw(st.integers(0, len(bad)))
            bad[place:place] = data.draw(st.binary(max_size=40))
        size = data.draw(st.sampled_from([(8, 8, 8), (1, 1, 1), (8, 8, 3)]))
        dtype = data.draw(st.sampled_from(blocks.DTYPES))
        codec = data.draw(st.sampled_from(blocks.CODECS))
        try:
            value = decoded(bytes(bad), zlib.crc32(bytes(bad)), size, dtype, codec)
        except ScanFault:
            return
        assert value.shape == size and value.dtype == dtype
