"""One record serves journal, table, curves and progress line, so it must survive the journal unchanged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.tracking import Journal, RoundNumbers, SiteNumbers, foreground, mean, read, rounds
from computation.tracking.numbers import RoundNumbers as Record

NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)
DICE = st.dictionaries(st.text(max_size=5), NUMBER, max_size=3)
NAMES = st.text(max_size=8)
RECORDS = st.builds(
    RoundNumbers,
    round=st.integers(1, 1000),
    digest=NAMES,
    loss=NUMBER,
    own_loss=NUMBER,
    learning_rate=NUMBER,
    counted=st.lists(NAMES, max_size=3).map(tuple),
    skipped=st.dictionaries(NAMES, NAMES, max_size=3),
    dice=DICE,
    own_dice=DICE,
    by_site=st.dictionaries(NAMES, st.builds(SiteNumbers, loss=NUMBER, samples=st.integers(0, 99)), max_size=3),
)


@settings(deadline=None)
@given(record=RECORDS)
def test_a_round_comes_back_from_the_journal_as_it_was(tmp_path_factory, record):
    journal = Journal(tmp_path_factory.mktemp("j") / "journal.jsonl")
    journal.write("round", **record.as_json())
    assert rounds(read(journal.path)) == (record,)


def test_fields_of_a_later_version_are_left_out_and_missing_ones_keep_their_default():
    raw = {"round": 3, "digest": "d", "later": 1, "by_site": {"a": {"samples": 2, "later": 1}}}
    assert Record.from_json(raw) == RoundNumbers(3, "d", by_site={"a": SiteNumbers(samples=2)})


def test_means_leave_out_what_is_not_known():
    assert mean([]) is None
    assert mean([None, None]) is None
    assert mean([0.5, None, 1.0]) == 0.75
    dice = {"background": 0.99, "white matter": 0.8, "grey matter": None}
    assert foreground(dice, ("background", "white matter", "grey matter")) == 0.8
    assert foreground({}, ("background", "white matter")) is None
    assert foreground({"white matter": 0.8, "grey matter": 0.6}, tuple(dice)) == pytest.approx(0.7)
