"""metrics.csv: fixed columns, one row per round, and a round that is run again replaces its row."""

import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import MeshNetError
from computation.tracking import RoundNumbers
from computation.tracking.metrics_table import MetricsTable

CLASSES = ("background", "white matter", 'grey, "odd"\nmatter')


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_holds_what_is_known_and_leaves_the_rest_empty(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, CLASSES).write(
        RoundNumbers(1, "abc", loss=0.1, counted=("a",), sites=2, dice={CLASSES[2]: 0.75}, validated=0, seconds=1.5)
    )
    (row,) = rows(path)
    expected = {"round": "1", "digest": "abc", "loss": "0.1", "own_loss": "", "counted": "1", "sites": "2", "void": "0"}
    assert {name: row[name] for name in expected} == expected
    assert row['dice grey, "odd"\\nmatter'] == "0.75"
    assert row["dice background"] == ""
    assert row["validated"] == "0"
    assert row["best"] == ""


def test_who_did_not_count_and_who_was_scaled_down_are_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    skipped = {"d": "outlier", "b": "out-of-memory"}
    MetricsTable(path, CLASSES).write(RoundNumbers(1, "abc", counted=("a", "c"), skipped=skipped, clipped=("a", "c")))
    (row,) = rows(path)
    assert (row["skipped"], row["clipped"]) == ("b: out-of-memory; d: outlier", "a; c")


@settings(max_examples=25, deadline=None)
@given(done=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.booleans()), max_size=12))
def test_whatever_the_order_each_round_has_one_row_the_last_one_written(tmp_path_factory, done):
    path = tmp_path_factory.mktemp("t") / "metrics.csv"
    table = MetricsTable(path, CLASSES)
    expected = {}
    for number, samples, restart in done:
        table = MetricsTable(path, CLASSES) if restart else table
        table.write(RoundNumbers(number, "d", samples=samples))
        expected[number] = str(samples)
    if done:
        assert [(int(row["round"]), row["samples"]) for row in rows(path)] == sorted(expected.items())
    else:
        assert not path.exists()


def test_a_row_that_was_not_written_whole_is_written_again(tmp_path):
    path = tmp_path / "metrics.csv"
    table = MetricsTable(path, CLASSES)
    for number in (1, 2):
        table.write(RoundNumbers(number, "d"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    MetricsTable(path, CLASSES).write(RoundNumbers(2, "d"))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 9])
def test_a_table_of_which_even_the_header_is_lost_has_it_again(tmp_path, kept):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, CLASSES).write(RoundNumbers(1, "one"))
    path.write_bytes(path.read_bytes()[:kept])
    table = MetricsTable(path, CLASSES)
    for number, digest in ((1, "one again"), (2, "two")):
        table.write(RoundNumbers(number, digest))
    assert [row["digest"] for row in rows(path)] == ["one again", "two"]


def test_numbers_that_are_not_finite_are_written_as_spreadsheets_and_pandas_read_them(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, CLASSES).write(RoundNumbers(1, "", loss=math.nan, own_loss=math.inf, learning_rate=-math.inf))
    (row,) = rows(path)
    assert (row["loss"], row["own_loss"], row["learning_rate"]) == ("NaN", "Inf", "-Inf")


def test_numbers_keep_every_bit(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, CLASSES).write(RoundNumbers(1, "", loss=1 / 3))
    assert float(rows(path)[0]["loss"]) == 1 / 3


def test_a_table_with_other_columns_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsTable(path, CLASSES).write(RoundNumbers(1, ""))
    before = path.read_bytes()
    with pytest.raises(MeshNetError, match="other columns"):
        MetricsTable(path, ("background", "lesion"))
    assert path.read_bytes() == before


def test_no_draft_is_left_behind(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv", CLASSES)
    table.write(RoundNumbers(1, ""))
    table.write(RoundNumbers(1, "again"))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
