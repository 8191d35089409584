"""Checkpoints: exact, whole or not there, and the last few only."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from full_disk import small_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from computation.errors import ResumeError
from computation.training import checkpoint

ARRAYS = {
    "model": np.arange(7, dtype=np.float32),
    "first": np.array([0.1, -0.0, np.inf, 5e-324]),
    "empty": np.zeros((0, 3)),
    "counts": np.array([[2**62, -1]], np.int64),
    "flags": np.array([0, 255], np.uint8),
}
VALUES = {"round": 3, "name": "ünïcode", "loss": 0.1, "plan": None, "nested": {"list": [1, 2.5, "x"]}}


def _same(one, other):
    return set(one) == set(other) and all(
        one[k].dtype == other[k].dtype and one[k].shape == other[k].shape and one[k].tobytes() == other[k].tobytes()
        for k in one
    )


def test_round_trip_is_exact(tmp_path):
    checkpoint.save(tmp_path / "checkpoints", 3, ARRAYS, VALUES)
    arrays, values = checkpoint.load(tmp_path / "checkpoints", 3)
    assert _same(arrays, ARRAYS)
    assert values == VALUES
    arrays["model"][0] = 9


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.dictionaries(
        st.text(max_size=8),
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        ),
        max_size=4,
    ),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_arrays_and_floats_come_back_bit_for_bit(tmp_path, arrays, numbers):
    checkpoint.save(tmp_path, 1, arrays, {"numbers": numbers})
    again, values = checkpoint.load(tmp_path, 1)
    assert _same(again, {name: np.ascontiguousarray(array) for name, array in arrays.items()})
    assert list(map(float.hex, values["numbers"])) == list(map(float.hex, numbers))


def test_only_the_last_are_kept(tmp_path):
    for iteration in range(1, 7):
        checkpoint.save(tmp_path, iteration, ARRAYS, VALUES, keep=3)
    assert checkpoint.iterations(tmp_path) == (4, 5, 6)
    assert len(list(tmp_path.iterdir())) == 3


def test_going_back_drops_the_course_that_was_given_up(tmp_path):
    for iteration in range(1, 7):
        checkpoint.save(tmp_path, iteration, ARRAYS, VALUES, keep=3)
    checkpoint.save(tmp_path, 5, ARRAYS, VALUES, keep=3)
    assert checkpoint.iterations(tmp_path) == (4, 5)


def test_missing_one_is_named_with_those_that_are_there(tmp_path):
    checkpoint.save(tmp_path, 4, ARRAYS, VALUES)
    with pytest.raises(ResumeError, match=r"no checkpoint of iteration 5 .*there: 4") as caught:
        checkpoint.load(tmp_path, 5)
    assert str(tmp_path) not in caught.value.public
    with pytest.raises(ResumeError, match="there: none"):
        checkpoint.load(tmp_path / "nowhere", 5)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_any_damage_is_a_resume_error(tmp_path, place, bit, cut):
    path = checkpoint.save(tmp_path, 3, ARRAYS, VALUES)
    blob = bytearray(path.read_bytes())
    place %= len(blob)
    if cut:
        del blob[place:]
    else:
        blob[place] ^= 1 << bit
    path.write_bytes(blob)
    with pytest.raises(ResumeError, match="iteration 3 is damaged") as caught:
        checkpoint.load(tmp_path, 3)
    assert str(tmp_path) not in caught.value.public


def test_a_renamed_checkpoint_is_refused(tmp_path):
    path = checkpoint.save(tmp_path, 3, ARRAYS, VALUES)
    path.rename(tmp_path / "checkpoint-00000008.bin")
    with pytest.raises(ResumeError, match="of iteration 3"):
        checkpoint.load(tmp_path, 8)


def test_values_that_are_not_finite_are_refused_before_writing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path, 1, {}, {"loss": float("nan")})
    assert not checkpoint.iterations(tmp_path)


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResumeError, match="output folder is full or may not be written") as caught:
        checkpoint.save(tmp_path / "file", 1, ARRAYS, VALUES)
    assert str(tmp_path) not in caught.value.public


def test_a_full_disk_leaves_the_earlier_checkpoints_and_no_half_one(tmp_path):
    checkpoint.save(tmp_path, 1, ARRAYS, VALUES)
    with small_files(100), pytest.raises(ResumeError, match="output folder is full or may not be written") as caught:
        checkpoint.save(tmp_path, 2, ARRAYS, VALUES)
    assert str(tmp_path) not in caught.value.public
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.bin"]


def test_those_that_follow_each_other_are_whole_and_take_the_place_of_the_one_that_fell_out(tmp_path):
    for iteration in range(1, 9):
        long = {"model": np.full(1000 - 100 * iteration, iteration, np.float32)}
        checkpoint.save(tmp_path, iteration, long, VALUES, keep=3, follows=iteration > 3)
        for one in range(max(1, iteration - 2), iteration + 1):
            assert (checkpoint.load(tmp_path, one)[0]["model"] == one).all()
    assert checkpoint.iterations(tmp_path) == (6, 7, 8)
    assert len(list(tmp_path.iterdir())) == 4
    # Whoever does not know what is there looks, and sets nothing aside.
    checkpoint.save(tmp_path, 9, ARRAYS, VALUES, keep=3)
    assert checkpoint.iterations(tmp_path) == (7, 8, 9)
    assert len(list(tmp_path.iterdir())) == 3


def test_foreign_files_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for iteration in range(5):
        checkpoint.save(tmp_path, iteration, ARRAYS, VALUES, keep=2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


WRITER = """
import sys, numpy
from pathlib import Path
from computation.training import checkpoint
for iteration in range(1, 10**6):
    arrays = {"model": numpy.full(20_000, iteration, numpy.float32)}
    checkpoint.save(Path(sys.argv[1]), iteration, arrays, {}, keep=2, follows=iteration > int(sys.argv[2]))
"""


@pytest.mark.parametrize("alone", [2, 10**6], ids=["each over an older one", "each anew"])
def test_a_killed_writer_leaves_whole_checkpoints_only(tmp_path, alone):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(alone)])
    try:
        deadline = time.monotonic() + 60
        while len(checkpoint.iterations(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    found = checkpoint.iterations(tmp_path)
    assert len(found) in (2, 3)
    for iteration in found:
        assert (checkpoint.load(tmp_path, iteration)[0]["model"] == iteration).all()
