"""Every field of every message is told in one table, and in the page that is made of it."""

import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from computation.wire import messages
from computation.wire.disclosed import ENVELOPE, EVALUATION, MESSAGES, meaning, message_of, parts
from computation.wire.messages import (
    Arrived,
    Evaluation,
    FinishOffer,
    JoinOffer,
    Masked,
    Masking,
    Plan,
    Results,
    RoundOffer,
    Unmasking,
    Verdict,
)

ROOT = Path(__file__).parents[2]
RECORDS = {
    "join message": JoinOffer,
    "plan": Plan,
    "contribution": RoundOffer,
    "verdict": Verdict,
    "word on the masks": Arrived,
    "answer on the masks": Unmasking,
    "finishing message": FinishOffer,
    "results": Results,
}


def names(record):
    return {item.name for item in fields(record)}


def test_no_message_is_forgotten():
    known = {*RECORDS.values(), Evaluation, Masked, Masking}
    assert {one for one in vars(messages).values() if is_dataclass(one)} == known, "tell it in wire/disclosed.py"


def test_an_evaluations_fields_are_all_told():
    assert set(EVALUATION) == names(Evaluation), "tell the field in computation/wire/disclosed.py"


@pytest.mark.parametrize(("kind", "name", "record"), [("plan", "masking", Masking), ("contribution", "masked", Masked)])
def test_a_record_in_a_message_has_no_field_that_is_not_told(kind, name, record):
    told = {field.removeprefix(f"{name}.") for field in MESSAGES[kind] if field.startswith(f"{name}.")}
    assert told == names(record), "tell the field in computation/wire/disclosed.py"


@pytest.mark.parametrize(("kind", "record"), RECORDS.items())
def test_a_message_has_no_field_that_is_not_told_and_the_other_way_round(kind, record):
    told = {name.partition(".")[0] for name in MESSAGES[kind]}
    assert told == names(record), (
        "tell the field in computation/wire/disclosed.py, then run docs/figures/make_disclosure.py"
    )
    assert not told & set(ENVELOPE), "of these only the envelope has one"


def test_records_in_a_message_are_told_field_by_field():
    counts = dict.fromkeys(EVALUATION, 1)
    opened = parts({"phase": "finish", "evaluations": {"valid": counts}})
    assert set(opened) == {"phase", *(f"evaluations.valid.{name}" for name in counts)}
    assert all(meaning("finishing message", name) for name in opened)
    empty = parts({"validation": None, "evaluations": {}, "scans": {"train": 1}})
    assert empty == {"validation": None, "evaluations": {}, "scans": {"train": 1}}


def test_a_message_of_no_known_kind_is_not_taken_for_another():
    assert message_of("local", {"phase": "plan"}) == "unknown" and meaning("unknown", "secret") == ""
    assert message_of("remote", {"rounds": 1}) == "summary"


def test_the_page_is_made_of_the_table():
    made = runpy.run_path(str(ROOT / "docs" / "figures" / "make_disclosure.py"))
    text = (ROOT / "docs" / "disclosure.md").read_text(encoding="utf-8")
    assert made["page"](text) == text, "run docs/figures/make_disclosure.py"
    assert set(made["SENT"]) == set(MESSAGES)
