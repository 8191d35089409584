"""The journal is strict JSON whatever it is told, and survives whatever is done to its file."""

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import MeshNetError
from computation.tracking import Journal, read

ODD = st.sampled_from([math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("-inf")])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ODD
NUMPY = st.builds(np.float32, st.floats(width=32)) | st.builds(np.int64, st.integers(-(2**63), 2**63 - 1))
VALUES = st.recursive(
    PLAIN | NUMPY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def strict(line):
    """Parse as a strict reader such as JavaScript's does: NaN and Infinity are errors."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(line, parse_constant=refuse)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal.jsonl")


@settings(deadline=None)
@given(details=st.dictionaries(st.sampled_from(["loss", "dice", "note", "rows"]), VALUES))
def test_every_line_is_one_strict_json_object(tmp_path_factory, details):
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    Journal(path).write("anything", **details)
    text = path.read_text()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    entry = strict(text)
    assert entry["event"] == "anything"
    assert set(details) <= set(entry)


def test_not_finite_numbers_become_null_and_are_named(journal):
    journal.write("round", loss=math.nan, dice={"white matter": math.inf, "grey matter": 0.5}, rows=[1, -math.inf])
    (entry,) = read(journal.path)
    assert entry["loss"] is None
    assert entry["dice"] == {"white matter": None, "grey matter": 0.5}
    assert entry["rows"] == [1, None]
    assert entry["not_finite"] == {"loss": "nan", "dice.white matter": "inf", "rows.1": "-inf"}


def test_numpy_dataclasses_sets_and_paths_become_plain_values(journal):
    @dataclasses.dataclass
    class Pair:
        one: int
        two: np.float32

    journal.write(
        "kinds",
        half=np.float32(0.5),
        count=np.int64(3),
        yes=np.bool_(True),
        grid=np.array([[1, 2], [3, 4]]),
        pair=Pair(1, np.float32(0.25)),
        names={"b", "a"},
        where=Path("folder"),
    )
    (entry,) = read(journal.path)
    del entry["time"], entry["sequence"], entry["event"]
    expected = {"half": 0.5, "count": 3, "yes": True, "grid": [[1, 2], [3, 4]], "pair": {"one": 1, "two": 0.25}}
    assert entry == {**expected, "names": ["a", "b"], "where": "folder"}


def test_sequence_grows_over_restarts(tmp_path):
    for start in range(3):
        journal = Journal(tmp_path / "journal.jsonl")
        journal.write("a", start=start)
        journal.write("b")
    assert [entry["sequence"] for entry in read(tmp_path / "journal.jsonl")] == list(range(6))


def test_nothing_is_opened_before_the_first_event(journal):
    assert not journal.path.exists()
    assert read(journal.path) == ()


@settings(deadline=None)
@given(cut=st.integers(min_value=0, max_value=400))
def test_a_file_cut_anywhere_reads_as_a_prefix_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    journal = Journal(path)
    for number in range(4):
        journal.write("step", number=number, text="ü\u2028\n")
    whole = read(path)
    cut = min(cut, path.stat().st_size)
    os.truncate(path, cut)
    kept = read(path)
    assert kept == whole[: len(kept)]

    Journal(path).write("again")
    after = read(path)
    assert after[: len(kept)] == kept
    assert [entry["sequence"] for entry in after] == list(range(len(after)))
    assert after[-1]["event"] == "again" or after[-1]["event"] == "journal-mended"
    assert {entry["event"] for entry in after[len(kept) :]} <= {"again", "journal-mended"}


def test_what_was_cut_off_is_told(journal):
    journal.write("whole")
    with journal.path.open("a") as file:
        file.write('{"time": "2026')
    Journal(journal.path).write("next")
    assert [entry["event"] for entry in read(journal.path)] == ["whole", "journal-mended", "next"]
    assert read(journal.path)[1]["lost_bytes"] == 14


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"[]\n", b"{}\n", b"NaN\n", b"[" * 5000 + b"\n", b'{"event": 3}\n'])
def test_a_damaged_line_in_the_middle_is_seen_and_hides_nothing(journal, damage):
    journal.write("before")
    with journal.path.open("ab") as file:
        file.write(damage)
    journal.write("after")
    assert [entry["event"] for entry in read(journal.path)] == ["before", "unreadable-line", "after"]
    assert read(journal.path)[1]["line"] == 2


@pytest.mark.parametrize("name", ["time", "sequence", "not_finite"])
def test_a_detail_cannot_take_the_name_of_a_field_that_every_line_has(journal, name):
    with pytest.raises(ValueError, match=name):
        journal.write("event", **{name: 1})


def test_a_moved_file_is_begun_anew(journal):
    journal.write("first")
    journal.path.rename(journal.path.with_name("old"))
    journal.write("second")
    assert [entry["sequence"] for entry in read(journal.path)] == [1]


@pytest.mark.parametrize("short", [True, False])
def test_a_full_disk_is_one_clear_error_and_leaves_no_half_line(journal, monkeypatch, short):
    journal.write("before")
    before = journal.path.read_bytes()
    real = os.write

    def full(handle, data):
        real(handle, data[:7])
        if short:
            return 7
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("computation.tracking.lines.os.write", full)
    with pytest.raises(MeshNetError, match=r"journal\.jsonl cannot be written") as caught:
        journal.write("lost")
    assert str(journal.path.parent) not in caught.value.public
    assert str(journal.path) in caught.value.private
    monkeypatch.undo()
    assert journal.path.read_bytes() == before
    journal.write("after")
    assert [entry["event"] for entry in read(journal.path)] == ["before", "after"]


def test_a_killed_writer_loses_at_most_the_line_it_was_writing(tmp_path):
    path = tmp_path / "journal.jsonl"
    program = (
        "import sys, itertools; from pathlib import Path; from computation.tracking import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in itertools.count(): journal.write('step', number=number)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size > 5000) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    entries = read(path)
    assert len(entries) > 10
    assert [entry["number"] for entry in entries] == list(range(len(entries)))
